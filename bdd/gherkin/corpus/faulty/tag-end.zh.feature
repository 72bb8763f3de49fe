# language: zh-CN
功能: x
  @a
