# language: zh-CN
功能: 取款
  场景: 取出现金
    假如账户余额为 100:
      | 名称 | 数值 |
      |名称|数值|
      |  |  |
      | a\|b | c\\d |
      | a\nb | \x |
    # in between
    
      | last | row | dropped
    那么机器支付 20
