Feature: Cash

  Rule: Only the owner gets cash
    Machines that pay out cash.
    Second line of the text.
    # c

    Scenario: withdraw cash
      Given the account holds 100
