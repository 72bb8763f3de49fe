  #   language  :   en   
Feature: x
  Scenario: y
    Given z
