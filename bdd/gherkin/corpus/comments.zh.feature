# first
# language: zh-CN
# second
   # third
功能: 取款
  # fourth
  自动取款机付出现金。
  # fifth

  第二行文字。
  # sixth
  场景: 取出现金
  # seventh
    假如账户余额为 100
    # eighth
      # ninth
    当客户取款 20
# tenth
