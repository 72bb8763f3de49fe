Feature: x
  Scenario: y
    Given ab
      """
      c

      d
      """
