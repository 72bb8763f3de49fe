Feature: Cash
  Scenario Outline: <amount><left>
    Given <amount> <left> <<amount>>
    Examples:
      | amount | left | |
      | <left> | <amount> | x |
      | $0 | \\1 | |
