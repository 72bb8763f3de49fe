Feature: x
  Scenario: y
    Given z
  Scenario: q
    Given a
      """
      t
      """
      """
      u
      """
