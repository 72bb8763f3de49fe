@guest
Feature: Machines boot
  As someone who runs virtual machines
  I want stock Linux to boot on the software engine
  So that any host will do

  Rule: A Linux machine boots to a shell

    Background:
      Given a small Linux machine

    Scenario: It answers on its console, and its kernel finds nothing wrong
      When the machine boots to a shell
      And I run "uname -s -m"
      Then the output matches /^Linux x86_64$/
      And the machine is running
      And the console log has no line matching /BUG:|Oops|WARNING:|segfault/
      When I run "sleep 1"
      Then the command succeeds

    Scenario: Commands and scripts tell how they ended
      When the machine boots to a shell
      And I try to run "(exit 3)"
      Then the command exits with 3
      And the command does not succeed
      When I run the script:
        """sh
        total=0
        for number in 1 2 3; do
          total=$((total + number))
        done
        echo "total $total"
        """
      Then the output contains "total 6"

    Scenario: It powers off
      When the machine boots to a shell
      And I enter "poweroff -f" on the console
      Then the machine shuts down cleanly
      And the machine exits with 0

    Scenario: It restarts, and the old prompt is not taken for the new one
      When the machine boots to a shell
      And I run "touch /before"
      And I enter "reboot -f" on the console
      Then the console shows "powers the machine off." within 120 seconds
      And the console shows "# "
      When I try to run "test -e /before"
      Then the command fails

    Scenario: It is held, goes on, and is stopped from outside
      When the machine boots to a shell
      And I pause the machine
      Then the machine is paused
      When I resume the machine
      Then the machine is running
      And the guest sees 1 CPU
      When I stop the machine
      Then the machine is stopped

  Rule: A lost key is noticed

    Scenario: A console that loses one typed character in fifty
      Given a small Linux machine
      And the console loses one typed character in 50
      When the machine boots to a shell
      And I run "echo the quick brown fox jumps over the lazy dog, again and again, and never stops"
      Then the output contains "the quick brown fox jumps over the lazy dog, again and again, and never stops"
      When I run "echo pack my box with five dozen liquor jugs, and then with six, and then with seven"
      Then the output contains "pack my box with five dozen liquor jugs, and then with six, and then with seven"

  Rule: A guest sees what it was given

    Scenario Outline: Processors and memory
      Given a Linux machine with <cpus> vCPU and <memory> of memory
      When the machine boots to a shell
      Then the guest sees <cpus> CPUs
      And the guest sees at least <seen> of memory

      Examples:
        | cpus | memory  | seen    |
        | 1    | 128 MiB | 80 MiB  |
        | 2    | 256 MiB | 200 MiB |
        | 1    | 512 MiB | 440 MiB |

  Rule: Several machines run side by side

    Scenario: Two machines do not disturb each other
      Given a machine "red" with:
        | memory | 128M                                |
        | engine | soft                                |
        | kernel | ${env:KEZHAN_GUESTS}/cloud/vmlinuz  |
        | initrd | ${env:KEZHAN_GUESTS}/busybox/initrd |
        | append | console=ttyS0 quiet                 |
      And a machine "blue" with:
        | memory | 128M                                |
        | engine | soft                                |
        | kernel | ${env:KEZHAN_GUESTS}/cloud/vmlinuz  |
        | initrd | ${env:KEZHAN_GUESTS}/busybox/initrd |
        | append | console=ttyS0 quiet                 |
      When I start the machine "red"
      And I start the machine "blue"
      Then the console of the machine "red" shows "# " within 120 seconds
      And the console of the machine "blue" shows "# " within 120 seconds
      When I enter "poweroff -f" on the console of the machine "red"
      Then the machine "red" is stopped within 60 seconds
      And the machine "blue" is running

  Rule: A machine that fails says so

    Scenario: The guest's kernel panics
      Given a machine "lost" with:
        | memory    | 128M                               |
        | engine    | soft                               |
        | kernel    | ${env:KEZHAN_GUESTS}/cloud/vmlinuz |
        | append    | console=ttyS0 quiet panic=-1       |
        | no-reboot |                                    |
      When I start the machine "lost"
      Then the machine exits with 1 within 120 seconds

    Scenario: The time that it was given is over
      Given a machine "hasty" with:
        | memory  | 128M                                |
        | engine  | soft                                |
        | kernel  | ${env:KEZHAN_GUESTS}/cloud/vmlinuz  |
        | initrd  | ${env:KEZHAN_GUESTS}/busybox/initrd |
        | append  | console=ttyS0 quiet                 |
        | timeout | 2                                   |
      When I start the machine "hasty"
      Then the machine exits with 124
      And the machine's messages contain "--timeout 2: the time is over"
