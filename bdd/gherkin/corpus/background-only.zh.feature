# language: zh-CN
功能: 取款
  背景:
    假如账户余额为 100
