# language: zh-CN
功能: 取款机服务
  作为银行
  我想要取款机是一个服务
  以便每个渠道遵守同样的规则

  背景:
    假如程序 "${env:ATM_PROGRAM} 127.0.0.1:0" 以 "atm" 之名在后台运行
    而且程序 "atm" 给出的地址存为 "atm"
    而且 API 位于 "${atm}"

  场景: 账户有余额时付款
    当我 POST /v1/withdrawals，内容如下：
      """json
      {"card": "4000001", "amount": 20}
      """
    那么 API 返回 201：
      """json
      {"dispensed": 20, "balance": "#number"}
      """

  场景: 余额不足时拒绝
    当我 POST /v1/withdrawals，内容如下：
      """json
      {"card": "4000001", "amount": 5000}
      """
    那么 API 返回 409，问题类型为“not-enough-money”
