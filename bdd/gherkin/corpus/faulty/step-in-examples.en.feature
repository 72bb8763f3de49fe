Feature: x
  Scenario: y
    Given z
    Examples:
      | a |
    Given w
