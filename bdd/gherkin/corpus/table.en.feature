Feature: Cash
  Scenario: withdraw cash
    Given the account holds 100:
      | name | value |
      |name|value|
      |  |  |
      | a\|b | c\\d |
      | a\nb | \x |
    # in between
    
      | last | row | dropped
    Then the machine pays 20
