Feature: x
  Scenario Outline: y <a>
    Given <a>
    Examples:
      | a | a |
      | 1 | 2 |
