Feature: The doctor and the command line
  As someone new to Kezhan
  I want to be told what this host can do and what I typed wrong
  So that I can mend it myself

  Scenario: The doctor says what this host can do
    When I try to run "kezhan doctor" on the host
    Then the output contains "/dev/kvm"
    And the output contains "memory"
    And the output matches /Guests run on this host with the (kvm|soft) engine/

  Scenario: The doctor speaks to programs too
    When I try to run "kezhan doctor --json" on the host
    Then the output matches /"engine": "(kvm|soft)"/
    And the output contains "\"checks\""

  Scenario: The version is one line
    When I run "kezhan --version" on the host
    Then the output matches /^kezhan [0-9]+\.[0-9]+\.[0-9]+$/

  Scenario: Completions are made for a shell
    When I run "kezhan completions bash" on the host
    Then the output contains "_kezhan"

  Scenario: Every verb explains itself
    When I run "kezhan run --help" on the host
    Then the output contains "--engine"
    And the output contains "Exit status"

  Scenario Outline: What was typed wrong is named, with its value
    When I try to run "kezhan run <arguments>" on the host
    Then the command exits with 2
    And the output contains "<named>"

    Examples:
      | arguments                   | named          |
      | --kernel /nonexistent       | /nonexistent   |
      | --memory 5X                 | 5X             |
      | --engine magic              | magic          |
      | --cpus 0 --kernel /dev/null | 0              |
      |                             | --kernel       |
      | --serial carrier-pigeon     | carrier-pigeon |
