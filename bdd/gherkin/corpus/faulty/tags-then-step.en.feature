Feature: x
  @a
  Given z
  Scenario: y
