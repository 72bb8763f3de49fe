Feature: x
# language: zh-CN
  Scenario: y
    Given z
