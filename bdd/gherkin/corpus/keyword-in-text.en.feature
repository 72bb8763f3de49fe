Feature: Cash
  Machines that pay out cash. Scenario
  Scenario withdraw cash
  Scenario: withdraw cash: Scenario: withdraw cash
    Given Given the account holds 100
    When "the customer asks for 20" Then 
    Then the machine pays 20   
