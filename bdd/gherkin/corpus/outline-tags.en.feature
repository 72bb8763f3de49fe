@f
Feature: Cash
  @s1
  @s2 @s3
  Scenario Outline: <amount>
    Given the account holds 100 <amount>

    @e1
    # between

    @e2
    Examples: Machines that pay out cash.
      Second line of the text.

      | amount |
      | 1 |
    @e3
    Examples:
      | amount |
      | 2 |

  @last
  Scenario: withdraw cash
    * the account holds 100
