Feature: x
  Scenario: y
    Given z
Feature: w
