@
Feature: x
  @ @a
  Scenario: y
