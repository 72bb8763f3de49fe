# language: zh-CN
功能: x
  场景: y
    假如a
    假入b
    当c
      | a | b |
      | c |
    那末d
