@schemathesis
Feature: The cash machine's service withstands what no person would think of
  As a bank
  I want a program to throw everything that the contract allows, and much that it does not, at the service
  So that no customer is the first to try

  Scenario: Schemathesis finds nothing
    Given the program "${env:ATM_PROGRAM} 127.0.0.1:0" runs in the background as "atm"
    And the program "atm" tells its address as "atm"
    When I run "${env:PYTHON} -m schemathesis.cli run ${atm}/openapi.json --generation-deterministic --max-examples 30 --no-color" on the host
    Then its output contains "No issues found"
