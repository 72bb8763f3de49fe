@guest
Feature: Machines have networks of their own
  As someone who lets strangers' programs run in a machine
  I want its network to need no privilege, and to reach what I allow
  So that nothing goes where I did not send it

  Background:
    Given a small Linux machine with drivers for networks

  Scenario: A guest gets an address, a router and names
    Given the machine has a network card with:
      | mac | 52:54:00:12:34:56 |
    When the machine boots to a shell and asks for an address
    Then the machine gets an address
    And the output contains "10.0.2.15"
    When I run "cat /sys/class/net/eth0/address"
    Then the output contains "52:54:00:12:34:56"
    When I run "ping -c 1 -W 5 10.0.2.2"
    Then the output contains "1 packets received"
    When I unplug the network cable
    And I run "until grep -q 0 /sys/class/net/eth0/carrier; do sleep 0.1; done"
    And I plug the network cable
    And I run "until grep -q 1 /sys/class/net/eth0/carrier; do sleep 0.1; done"
    And I run "ping -c 1 -W 5 10.0.2.2"
    Then no packet left the machine except to:
      | nowhere |

  Scenario: A port of the host leads into the guest, and one without a server does not
    Given the machine has a network card
    And a free host port "web" is forwarded to guest port 80
    And a free host port "closed" is forwarded to guest port 81
    When the machine boots to a shell and asks for an address
    And I run "mkdir /www; echo greetings from the guest >/www/hello; httpd -p 80 -h /www"
    Then port 80 of the machine answers
    And "http://127.0.0.1:${web}/hello" answers 200
    And port 81 of the machine does not answer within 5 s
    And the response contains "greetings from the guest"

  Scenario: What is denied is refused, and nothing else left
    Given the machine has a network card with:
      | allow   | 192.0.2.7:25 |
      | default | deny         |
    When the machine boots to a shell and asks for an address
    Then the machine cannot reach "192.0.2.80" on port 80
    And no packet left the machine except to:
      | 192.0.2.80:80 |

  Scenario: Without a card there is no network
    Given the machine has no network card
    When the machine boots to a shell
    And I run "ls /sys/class/net"
    Then the output matches /^lo$/
    And the output does not contain "eth"

  Scenario: A guest behind a SOCKS proxy cannot leak
    Given a file "proxy.py" with:
      """python
      import socket
      server = socket.socket()
      server.bind(("127.0.0.1", 0))
      server.listen()
      open("port", "w").write(str(server.getsockname()[1]))
      while True:
          client, _ = server.accept()
          client.recv(64)
          client.sendall(b"\x05\x00")
          print("asked for", client.recv(64).hex(), flush=True)
          client.sendall(bytes.fromhex("05000001000000000000") + b"hello by way of the proxy\n")
          client.close()
      """
    And the program "exec python3 proxy.py" runs in the background as "proxy"
    When I run "until [ -s port ]; do sleep 0.1; done; cat port" on the host
    And I save the output as "port"
    Given the machine has a network card
    And the machine reaches the outside only through the SOCKS proxy "127.0.0.1:${port}"
    When the machine boots to a shell and asks for an address
    And I run "nc -w 10 192.0.2.80 80 </dev/null"
    Then the output contains "hello by way of the proxy"
    And the program "proxy" shows "asked for 05010001c00002500050"
    When I end the program "proxy"
    Then the machine cannot reach "192.0.2.80" on port 80

  Scenario: Two machines on one network reach each other, and the network goes with the run
    Given a file "two.feature" with:
      """gherkin
      Feature: two machines
        Scenario: they reach each other
          Given a network "lan" with subnet 10.9.0.0/24
          And a machine "web" with:
            | memory | 128M                                |
            | engine | soft                                |
            | kernel | ${env:KEZHAN_GUESTS}/cloud/vmlinuz  |
            | initrd | ${env:KEZHAN_GUESTS}/network/initrd |
            | append | console=ttyS0 quiet                 |
          And the machine "web" is connected to network "lan"
          And a machine "client" with:
            | memory | 128M                                |
            | engine | soft                                |
            | kernel | ${env:KEZHAN_GUESTS}/cloud/vmlinuz  |
            | initrd | ${env:KEZHAN_GUESTS}/network/initrd |
            | append | console=ttyS0 quiet                 |
          And the machine "client" is connected to network "lan"
          When I start the machine "web"
          And I start the machine "client"
          Then the console of the machine "web" shows "# " within 120 s
          And the console of the machine "client" shows "# " within 120 s
          When I run "cd /drivers/*cloud*; while read -r d; do insmod $d; done <order; cd /" on the machine "web"
          And I run "ip addr add 10.9.0.7/24 dev eth0; ip link set eth0 up" on the machine "web"
          And I run "mkdir /www; echo from the other machine >/www/hello; httpd -p 80 -h /www" on the machine "web"
          And I run "cd /drivers/*cloud*; while read -r d; do insmod $d; done <order; cd /" on the machine "client"
          And I run "ip addr add 10.9.0.8/24 dev eth0; ip link set eth0 up" on the machine "client"
          Then the machine "client" can reach "10.9.0.7" on port 80 within 30 s
          And the machine "client" cannot reach "10.9.0.7" on port 81
          When I run "wget -qO- http://10.9.0.7/hello" on the machine "client"
          Then the output contains "from the other machine"
      """
    And a file "alone.sh" with:
      """sh
      export KEZHAN_RUNTIME_DIR=$PWD
      ip link set lo up
      kezhan bdd run two.feature --failures failed
      kezhan net list --output json
      """
    When I run "unshare --user --map-root-user --net sh alone.sh" on the host
    Then the output contains "1 scenarios: 1 passed"
    And the output matches /^\[\]$/
