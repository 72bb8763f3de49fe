Feature: Cash
  Scenario: withdraw cash
    Given the account holds 100:
      """
      some text
        some text

      # some text
      | some text |
     some text
      Given the account holds 100
      """
    When the customer asks for 20:
    ```
    """
    some text
    ```
    Then the machine pays 20:
      """
      """
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
