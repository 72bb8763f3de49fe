Feature: Cash
  Machines that pay out cash.
  Second line of the text.

    Machines that pay out cash.

  Scenario: withdraw cash

    Machines that pay out cash.
    Second line of the text.

    Given the account holds 100
