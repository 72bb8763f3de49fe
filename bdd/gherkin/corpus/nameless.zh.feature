# language: zh-CN
功能:
  场景:
    假如账户余额为 100
  场景:
