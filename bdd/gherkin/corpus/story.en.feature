Feature: Cash
  As a customer
  I want cash
  So that I can buy bread

  Scenario: withdraw cash
    Given the account holds 100
