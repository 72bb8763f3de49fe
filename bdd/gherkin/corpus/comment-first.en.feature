Feature: Cash
# c

  Machines that pay out cash.
  Scenario: withdraw cash
    # d

    Machines that pay out cash.

    Given the account holds 100
