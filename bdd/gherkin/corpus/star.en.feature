Feature: Cash
  Scenario: withdraw cash
    * the account holds 100
    And the card is valid
    When the customer asks for 20
    * the machine pays 20
    And the card comes back
