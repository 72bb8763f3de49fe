@guest
Feature: Machines have disks
  As someone who runs virtual machines
  I want disks to keep what guests write, and nobody else's hands on them
  So that data is where it was put

  Scenario: A guest sees its disks, and the host sees what the guest wrote
    Given a 64 MiB disk "data" in qcow2 format
    And a 32 MiB disk "sealed"
    And a disk "letters" with files:
      | /dear.txt      | Dear guest         |
      | /deep/down.txt | a file in a folder |
    And a small Linux machine with drivers for disks
    And the machine has the disk "data"
    And the machine has the read-only disk "sealed"
    And the machine has the read-only disk "letters"
    When the machine boots to a shell and loads its drivers
    And I run "cat /sys/block/vda/size /sys/block/vda/serial /sys/block/vdb/ro"
    Then the output matches /^131072$/
    And the output matches /^data/
    When I run "mkdir -p /mnt; mount -t ext4 -o ro /dev/vdc /mnt; cat /mnt/dear.txt /mnt/deep/down.txt"
    Then the output contains "Dear guest"
    And the output contains "a file in a folder"
    When I try to run "echo broken | dd of=/dev/vdb bs=512 conv=sync"
    Then the command fails
    When I run "echo 'kept for good' | dd of=/dev/vda bs=512 seek=1000 conv=sync,fsync"
    And I enter "poweroff -f" on the console
    Then the machine shuts down cleanly
    And the disk "data" holds "kept for good"
    And the image "data" is consistent
    And qemu-img accepts the image "data"
    And the disk "data" uses at most 3 MiB on the host

  Scenario: A copy keeps what is written to it, and its original knows nothing of it
    Given a 16 MiB disk "original"
    And a copy of "original" as disk "copy"
    And a small Linux machine with drivers for disks
    And the machine has the disk "copy"
    When the machine boots to a shell and loads its drivers
    And I run "echo 'only in the copy' | dd of=/dev/vda bs=512 conv=sync,fsync"
    And I stop the machine
    And I detach the disk "copy"
    And I attach the disk "copy"
    And the machine boots to a shell and loads its drivers
    And I run "head -c 16 /dev/vda"
    Then the output contains "only in the copy"
    When I stop the machine
    Then the disk "copy" holds "only in the copy"
    And the disk "original" does not hold "only in the copy"

  Scenario: A machine waits while the host has no room, and goes on when it has
    Given a 64 MiB disk "data" in qcow2 format
    And a small Linux machine with drivers for disks
    And the machine has the disk "data" with the settings "on-error=pause"
    When the machine boots to a shell and loads its drivers
    And the host disk is full
    And I enter "cat /bin/busybox /bin/busybox >/dev/vda; sync; echo all ''is kept" on the console
    Then the machine's messages contain "the machine waits" within 30 s
    And the console does not show "all is kept" for 1 s
    When the host disk has room again
    Then the console shows "all is kept" within 60 s
    When I stop the machine
    Then the disk "data" holds "BusyBox v"
    And the image "data" is consistent

  Scenario: Two machines cannot write to one image
    Given a 16 MiB disk "data" in qcow2 format
    And a machine "first" with:
      | memory | 128M                               |
      | engine | soft                               |
      | kernel | ${env:KEZHAN_GUESTS}/cloud/vmlinuz |
      | append | console=ttyS0                      |
    And the machine has the disk "data"
    And a machine "second" with:
      | memory | 128M                               |
      | engine | soft                               |
      | kernel | ${env:KEZHAN_GUESTS}/cloud/vmlinuz |
      | append | console=ttyS0                      |
    And the machine has the disk "data"
    When I start the machine "first"
    Then the console of the machine "first" shows "Linux version" within 60 seconds
    When I start the machine "second"
    Then the machine exits with 2
    And the machine's messages contain "data"
    And the machine "first" is running

  Scenario Outline: A disk that cannot be opened is named: <what>
    Given a file "letter" with:
      """
      Dear reader
      """
    When I try to run "kezhan run --kernel ${env:KEZHAN_GUESTS}/cloud/vmlinuz --disk <disk>" on the host
    Then the command exits with 2
    And the output contains "<named>"

    Examples:
      | what                 | disk                | named   |
      | there is none        | nowhere.img         | nowhere |
      | it is no such format | letter,format=qcow2 | letter  |
      | no such setting      | letter,colour=blue  | colour  |

  Scenario: A disk comes while the machine runs, grows, and goes again
    Given a 32 MiB disk "late" in qcow2 format
    And a small Linux machine with drivers for disks
    And the machine has 1 hot-plug slot
    When the machine boots to a shell and loads its drivers
    Then the guest does not see the disk "late"
    When I attach the disk "late"
    Then the guest sees the disk "late"
    When I resize the disk "late" to 48 MiB
    Then the guest sees 48 MiB on the disk "late"
    When I run "echo 'came and went' | dd of=/dev/vda bs=512 conv=sync,fsync"
    And I detach the disk "late"
    Then the guest does not see the disk "late"
    And the disk "late" holds "came and went"
    And the disk "late" has 48 MiB
    And the image "late" is consistent
    And the machine is running

  Scenario: A broken disk is an error for the guest, and a whole one is a disk again
    Given a 16 MiB disk "worn"
    And a small Linux machine with drivers for disks
    And the machine has the disk "worn"
    When the machine boots to a shell and loads its drivers
    And the host disk returns I/O errors for "worn"
    And I try to run "dd if=/dev/vda of=/dev/null bs=4096 skip=2000 count=1"
    Then the command fails
    And the output contains "I/O error"
    When the host disk works again for "worn"
    And I run "dd if=/dev/vda of=/dev/null bs=4096 skip=2000 count=1"
    Then the machine is running

  Scenario: A machine gives memory back while it runs
    Given a small Linux machine with drivers for disks
    And the machine has a memory balloon
    When the machine boots to a shell and loads its drivers
    Then the guest has at least 50 MiB of free memory
    When I set the machine to 80 MiB of memory
    Then the guest does not have at least 50 MiB of free memory
    When I set the machine to 128 MiB of memory
    Then the guest has at least 50 MiB of free memory
    When I stop the machine
    And I set the machine to 256 MiB of memory
    And I set the machine to 2 vCPUs
    And the machine boots to a shell
    Then the guest sees 2 CPUs
    And the guest sees at least 200 MiB of memory
