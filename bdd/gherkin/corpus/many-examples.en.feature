Feature: Cash
  Rule: Only the owner gets cash
    Background:
      Given the account holds 100
      And the card is valid
    Scenario Outline: withdraw cash
      But <amount>
      When <amount>
      Examples: 1
        | amount |
        | 1 |
        | 2 |
      Examples: 2
        Machines that pay out cash.
        | amount |
        | 3 |
