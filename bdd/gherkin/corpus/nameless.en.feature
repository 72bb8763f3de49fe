Feature:
  Scenario:
    Given the account holds 100
  Scenario:
