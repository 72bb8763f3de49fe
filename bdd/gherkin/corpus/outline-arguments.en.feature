Feature: Cash
  Scenario Outline: withdraw cash
    Given the account holds 100:
      | name | <amount> |
      | <amount><amount> | \<amount> |
    When the customer asks for 20:
      """<amount>
      <amount> and <left>
      """
    Examples:
      | amount | left |
      | json | x\|y |
      | a\nb | \\ |
