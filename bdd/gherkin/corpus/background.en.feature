Feature: Cash
  Background: Machines that pay out cash.
    Second line of the text.
    Given the account holds 100
    And the card is valid

  Scenario: withdraw cash
    When the customer asks for 20
    Then the machine pays 20

  Scenario: refuse the card
    And the customer asks for 20
    But no receipt is printed
