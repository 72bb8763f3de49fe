Feature: Disk images are made, examined and changed
  As someone who keeps machines on disks
  I want images handled as qemu-img handles them
  So that no other tool is needed, and every other tool can read them

  Rule: An image is what was asked for

    Scenario Outline: A new <format> image
      Given a 64 MiB disk "disk" in <format> format
      Then the image "disk" is in <format> format
      And the disk "disk" has 64 MiB
      And the disk "disk" uses at most 3 MiB on the host

      Examples:
        | format |
        | raw    |
        | qcow2  |
        | vdi    |
        | vpc    |
        | vhdx   |
        | vmdk   |

    Scenario Outline: qemu-img accepts a <format> image
      Given a 64 MiB disk "disk" in <format> format
      Then qemu-img accepts the image "disk"

      Examples:
        | format |
        | qcow2  |
        | vdi    |
        | vhdx   |

    Scenario: Options of the format are honoured
      Given a 1 GiB disk "disk" in qcow2 format with:
        | cluster_size   | 2M |
        | lazy_refcounts | on |
      When I run "kezhan image info disk" on the host
      Then the output matches /cluster_size: (2097152|2M)/

  Rule: What is on a disk stays on it

    Scenario Outline: Content survives the way from <from> to <to>
      Given a 8 MiB disk "one" in <from> format
      And the disk "one" begins with:
        """
        mind the gap
        """
      When I convert the image "one" to <to> format as "two"
      Then the images "one" and "two" have the same content
      And the disk "two" holds "mind the gap"

      Examples:
        | from  | to    |
        | raw   | qcow2 |
        | qcow2 | vmdk  |
        | vhdx  | raw   |

    Scenario: A disk grows, and keeps what it had
      Given a 8 MiB disk "disk" in qcow2 format
      And the disk "disk" begins with:
        """
        before
        """
      When I resize the disk "disk" to 64 MiB
      Then the disk "disk" has 64 MiB
      And the disk "disk" holds "before"
      And the image "disk" is consistent
      And qemu-img accepts the image "disk"

    Scenario: A copy takes nothing from its original
      Given a 8 MiB disk "original" in qcow2 format
      And a copy of "original" as disk "copy"
      When I try to run "kezhan image info --backing-chain copy" on the host
      Then the output contains "original"
      And the images "original" and "copy" have the same content
      And the disk "copy" uses at most 1 MiB on the host

  Rule: An image remembers its snapshots

    Scenario: Going back undoes what came after
      Given a 8 MiB disk "disk" in qcow2 format
      And the disk "disk" begins with:
        """
        the old text
        """
      When I take the snapshot "clean" in the image "disk"
      And I run "qemu-io -f qcow2 -c 'write -P 0x58 0 4096' disk" on the host
      Then the disk "disk" does not hold "the old text"
      When I go back to the snapshot "clean" in the image "disk"
      Then the disk "disk" holds "the old text"
      And the image "disk" has the snapshot "clean"
      When I delete the snapshot "clean" in the image "disk"
      Then the image "disk" does not have the snapshot "clean"
      And qemu-img accepts the image "disk"

  Rule: What cannot be done is said so, and harms nothing

    Scenario: A smaller size must be asked for twice
      Given a 8 MiB disk "disk" in qcow2 format
      When I try to run "kezhan image resize -f qcow2 disk 4M" on the host
      Then the command fails
      And the output contains "--shrink"
      And the disk "disk" has 8 MiB

    Scenario: A file that is no image
      Given a file "letter" with:
        """
        Dear reader
        """
      When I try to run "kezhan image check -f qcow2 letter" on the host
      Then the command fails
      And the output contains "letter"
