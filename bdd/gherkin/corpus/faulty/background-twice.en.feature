Feature: x
  Background:
    Given a
  Background:
    Given b
  Scenario: c
    Given d
