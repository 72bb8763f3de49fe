Business Need: cash
  Scenario: one
    Given a
