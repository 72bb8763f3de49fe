Feature: Cash <>&"'\ 😀
  Scenario: 😀 withdraw cash \n \|
    Given the account holds 100 "“”‘’「」" ‹ › $1 $& \1
    When the customer asks for 20 /^\d+$/
    Then the machine pays 20 ${x} <amount>
