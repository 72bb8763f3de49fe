# first
# second
   # third
Feature: Cash
  # fourth
  Machines that pay out cash.
  # fifth

  Second line of the text.
  # sixth
  Scenario: withdraw cash
  # seventh
    Given the account holds 100
    # eighth
      # ninth
    When the customer asks for 20
# tenth
