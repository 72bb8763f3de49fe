Feature: x
  Scenario Outline: y <a>
    Given <a>
