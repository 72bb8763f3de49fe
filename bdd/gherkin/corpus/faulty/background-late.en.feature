Feature: x
  Scenario: y
    Given z
  Background:
    Given w
