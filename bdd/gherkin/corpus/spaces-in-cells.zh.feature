# language: zh-CN
功能: x
  场景: y
    假如z
      |　甲　乙　|　|
      | a # b | @c |
