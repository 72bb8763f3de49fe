Feature: Cash
  Background:
    Given the account holds 100

  Scenario: withdraw cash
    When the customer asks for 20

  @one @two
  Rule: Only the owner gets cash
    Machines that pay out cash.

    Background:
      Given the card is valid

    @three
    Scenario: withdraw cash
      When the customer asks for 20
      Then the machine pays 20

  Rule: Only the owner gets cash
    Scenario: refuse the card
      Then the card comes back
  Rule:
