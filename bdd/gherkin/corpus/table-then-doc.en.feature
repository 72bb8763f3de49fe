Feature: Cash
  Scenario: withdraw cash
    Given the account holds 100
      | name |
      """
      some text
      """
    When the customer asks for 20
      """md
      some text
      """
      | name |
      | value |
  Scenario: withdraw cash
    Given the account holds 100
