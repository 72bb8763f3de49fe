Ability: cash
  Example: one
    Given a
  Scenario Template: two <n>
    When <n>
    Scenarios:
      | n |
      | 1 |
