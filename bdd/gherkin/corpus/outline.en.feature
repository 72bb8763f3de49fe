Feature: Cash
  Scenario Outline: withdraw cash <amount>
    Given the account holds 100 <amount>
    When the customer asks for 20 <left> <amount> <name>
    And no receipt is printed
    Examples: Machines that pay out cash.
      | amount | left |
      | 20 | 80 |
      | 50 |    |
    Examples:
      | left | amount |
      | 1 | <left> |
