Feature: x
  Scenario: y
    Given a
    Gven b
    When c
      | a | b |
      | c |
    Tehn d
