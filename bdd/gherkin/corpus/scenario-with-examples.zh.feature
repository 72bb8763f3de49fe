# language: zh-CN
功能: x
  场景: y <a>
    假如<a>
    例子:
      | a |
      | 甲 |
