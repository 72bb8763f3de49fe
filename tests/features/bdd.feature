Feature: The runner keeps its word
  As someone who lets tests run unattended
  I want a run to stay within its bounds and to clean up after itself
  So that a bad test costs nothing but its own result

  Rule: Scenarios share what they were given, and no more

    @guest
    Scenario Outline: Eight rows of 256 MiB within <budget>
      Given a file "rows.feature" with:
        """gherkin
        Feature: rows
          Scenario Outline: row <n>
            Given a machine "row-of-<budget>-<n>" with:
              | memory | 256M                               |
              | engine | soft                               |
              | kernel | ${env:KEZHAN_GUESTS}/cloud/vmlinuz |
              | append | console=ttyS0 earlyprintk=ttyS0    |
            When I start the machine "row-of-<budget>-<n>"
            Then the console shows "Linux version" within 120 seconds
            When I run the script on the host:
              ```sh
              echo started >>"$ROWS/started"
              pgrep -fc -- '--name row-of-<budget>-[0-9]' >>"$ROWS/machines"
              until [ $(wc -l <"$ROWS/started") -ge <wait> ]; do sleep 0.1; done
              ```
            Examples:
              | n |
              | 1 |
              | 2 |
              | 3 |
              | 4 |
              | 5 |
              | 6 |
              | 7 |
              | 8 |
        """
      When I run "ROWS=$PWD kezhan bdd run rows.feature --memory <budget> --cpus 8 --failures failed" on the host
      Then the output contains "8 scenarios: 8 passed"
      When I run "sort -n machines | tail -n 1" on the host
      Then the output matches /^[1-<most>]$/

      Examples:
        | budget | wait | most |
        | 3GiB   | 8    | 8    |
        | 1GiB   | 1    | 4    |

    Scenario: What one scenario hangs in does not hold up the others
      Given a file "hang.feature" with:
        """gherkin
        Feature: hang
          Scenario: it hangs
            When I run "sleep 600" on the host
          Scenario: it does not
            When I run "true" on the host
        """
      When I try to run "kezhan bdd run hang.feature --timeout 5 --failures failed" on the host
      Then the command exits with 1
      And the output contains "the command did not end in time"
      And the output contains "2 scenarios: 1 passed, 1 failed"

  Rule: Nothing outlives a run

    @guest
    Scenario: A runner that is killed leaves neither machine nor file
      Given a file "long.feature" with:
        """gherkin
        Feature: long
          Scenario: a machine that runs on
            Given a 64 MiB disk "left-behind-disk"
            And a machine "left-behind" with:
              | memory | 128M                               |
              | engine | soft                               |
              | kernel | ${env:KEZHAN_GUESTS}/cloud/vmlinuz |
              | append | console=ttyS0                      |
              | net    | user                               |
            When I start the machine "left-behind"
            And I run "sleep 600" on the host
        """
      And the program "mkdir here; TMPDIR=$PWD/here KEZHAN_RUNTIME_DIR=$PWD/rt exec kezhan bdd run long.feature --failures failed" runs in the background as "runner"
      When I run "until ls rt/machines/left-behind.*; do sleep 0.1; done" on the host
      And I end the program "runner"
      And I run the script on the host:
        """sh
        tries=0
        while pgrep -f 'name left-behin[d]' || ls rt/machines/* || ! rmdir here; do
            tries=$((tries + 1))
            [ $tries -lt 50 ] || exit 1
            sleep 0.1
        done
        """
      Then the command succeeds

  Rule: A failure says what was expected, what was seen, and where

    Scenario: The first screen is enough
      Given a file "fails.feature" with:
        """gherkin
        Feature: fails
          Scenario: one and one
            When I run "expr 1 + 1" on the host
            Then the output contains "3"
        """
      When I try to run "kezhan bdd run fails.feature --failures failed" on the host
      Then the command exits with 1
      And the output contains "expected \"3\" in the output"
      And the output contains "saw 2"
      And the output contains "fails.feature:4"

    Scenario: A machine that dies ends the wait at once, and says so
      Given a file "dies.feature" with:
        """gherkin
        Feature: dies
          Scenario: a machine without a kernel
            Given a machine "headless" with:
              | kernel | /dev/null |
            When I start the machine "headless"
            Then the console of the machine "headless" shows "login:" within 600 s
        """
      When I try to run "kezhan bdd run dies.feature --failures failed" on the host
      Then the command exits with 1
      And the output contains "its process exited with 2"
      And the output contains "/dev/null"

  Rule: Bad input is told with its place, and the rest runs

    Scenario Outline: <what>
      Given a file "good.feature" with:
        """gherkin
        Feature: good
          Scenario: it runs
            When I run "true" on the host
        """
      When I run "<make>" on the host
      And I try to run "kezhan bdd run . --failures failed" on the host
      Then the command exits with 1
      And the output contains "<told>"
      And the output contains "1 passed"

      Examples:
        | what                          | make                                                                                          | told                                     |
        | A feature that is not UTF-8   | printf 'Feature: x\n \\377\n' > bad.feature                                                   | bad.feature:2:2: byte 0xff is not UTF-8  |
        | A feature of 100 MB           | head -c 100000000 /dev/zero > big.feature                                                     | big.feature:1:1: the file has            |
        | A program that prints garbage | mkdir steps; printf '#!/bin/sh\necho moo\n' > steps/cow; chmod +x steps/cow                   | steps/cow: it wrote what is no JSON line |
        | A program that hangs          | mkdir steps; printf '#!/bin/sh\\nexec sleep 99\\n' > steps/sloth; chmod +x steps/sloth        | steps/sloth: it said nothing for 10.0 s  |
        | A step of the wrong arity     | mkdir steps; printf '# @step I pay {int}\\n# @step zh: 我付 {int} 给 {int}\\n' > steps/pay.sh | steps/pay.sh:2: step                     |

    Scenario: Three errors in one file are told as three
      Given a file "bad.feature" with:
        """gherkin
        Feature: bad
          Scenario: y
            Given z
            nonsense
              | a | b |
              | c |
            more nonsense
        """
      When I try to run "kezhan bdd run bad.feature --failures failed" on the host
      Then the command exits with 1
      And the output contains "bad.feature:4:5"
      And the output contains "bad.feature:6:7"
      And the output contains "bad.feature:7:5"
