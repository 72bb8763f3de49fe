Feature: Cash
  Scenario: withdraw cash
    Given the account holds 100
    When the customer asks for 20
    Then the machine pays 20
