Feature: Cash
  Scenario Outline: withdraw cash
    Given the account holds 100
    Examples:
  Scenario Outline: refuse the card
    Given the account holds 100
    Examples: Machines that pay out cash.
      | amount |
  Scenario Outline: refuse the card
    Examples:
      | amount |
      | 1 |
