Scenario: y
  Given a
