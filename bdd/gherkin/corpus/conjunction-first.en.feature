Feature: Cash
  Scenario: withdraw cash
    And the account holds 100
    But the card is valid
    When the customer asks for 20
    And the machine pays 20
    Then the card comes back
