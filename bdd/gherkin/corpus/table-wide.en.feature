Feature: Cash
  Scenario: withdraw cash
    Given the account holds 100
      |　name　|	value	|
      | 数 |é̂|
    Then the machine pays 20
      ||
      | x |
