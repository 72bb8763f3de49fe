Feature: Cash
  Background:
    Given the account holds 100
