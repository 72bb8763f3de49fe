Feature: x
  Scenario: y
    Given z
      """
      text
      ```
