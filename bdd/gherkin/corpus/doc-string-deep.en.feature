Feature: Cash
  Scenario: withdraw cash
    Given the account holds 100
            """
            some text
          some text
  some text
            """ some text
    Then the machine pays 20
