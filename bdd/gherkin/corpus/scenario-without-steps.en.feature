Feature: Cash
  Background:
    Given the account holds 100
  Scenario: withdraw cash
  Scenario: refuse the card
    Machines that pay out cash.
  Scenario: withdraw cash
    Given the card is valid
