# language: zh-CN
功能:没有空格
  场景:没有空格
    假如:冒号
