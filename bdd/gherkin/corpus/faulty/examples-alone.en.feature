Feature: x
  Background:
    Given z
  Examples:
    | a |
