



Feature: Cash



  Scenario: withdraw cash



    Given the account holds 100


    Then the machine pays 20


