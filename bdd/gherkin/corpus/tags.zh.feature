# language: zh-CN
@a @b@c
  @d # comment
#x
@e#f
功能: 取款

  @g
  场景: 取出现金
    假如账户余额为 100
  @h @中文 @with:colon(1)
  场景: 拒绝卡片
