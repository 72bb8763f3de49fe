Feature: A SOCKS server answers byte for byte
  As someone who puts a proxy in front of guests
  I want every message answered as RFC 1928 and RFC 1929 say
  So that each client gets what it asked for, however it cuts its messages

  # Bytes are written in hex; blanks are for the eye, and text stands in single quotes.

  Rule: The server chooses how the client proves who it is (RFC 1928, section 3)

    Scenario Outline: Open to all: <case>
      Given a server that lets everybody in
      When the client sends "<client>"
      Then the server answers "<server>"
      And the session is "<state>"

      Examples:
        | case                             | client     | server | state  |
        | no authentication is offered     | 05 01 00   | 05 00  | open   |
        | one acceptable method of several | 05 02 0200 | 05 00  | open   |
        | only unknown methods             | 05 01 80   | 05 ff  | closed |
        | no method at all                 | 05 00      | 05 ff  | closed |
        | only a password                  | 05 01 02   | 05 ff  | closed |

    Scenario Outline: With a password: <case>
      Given a server that wants the user "user" with the password "pass"
      When the client sends "<client>"
      Then the server answers "<server>"
      And the session is "<state>"

      Examples:
        | case                     | client     | server | state  |
        | a password is among them | 05 02 0002 | 05 02  | open   |
        | no password is offered   | 05 01 00   | 05 ff  | closed |

    Scenario Outline: What does not speak SOCKS is hung up on: <case>
      Given a server that lets everybody in
      When the client sends "<client>"
      Then the server says nothing
      And the session is "closed"

      Examples:
        | case         | client         |
        | version 6    | 06 01 00       |
        | version 0    | 00 01 00       |
        | a web client | 'GET / HTTP'   |
        | TLS          | 16 03 01 02 00 |

  Rule: User and password are checked (RFC 1929)

    Scenario Outline: The password message: <case>
      Given a server that wants the user "user" with the password "pass"
      When the client sends "05 01 02"
      And the client sends "<client>"
      Then the server answers "05 02 <status>"
      And the session is "<state>"

      Examples:
        | case                        | client                 | status | state  |
        | both are right              | 01 04 'user' 04 'pass' | 01 00  | open   |
        | the password is wrong       | 01 04 'user' 04 'pasS' | 01 01  | closed |
        | the user is wrong           | 01 04 'useR' 04 'pass' | 01 01  | closed |
        | the password is a beginning | 01 04 'user' 03 'pas'  | 01 01  | closed |
        | both are empty              | 01 00 00               | 01 01  | closed |
        | the message is of version 5 | 05 04 'user' 04 'pass' | 01 01  | closed |

  Rule: A request names a target (RFC 1928, sections 4 and 5)

    Scenario Outline: To connect: <case>
      Given a server that lets everybody in
      When the client sends "05 01 00"
      And the client sends "<request>"
      Then the server wants a connection to "<target>"
      And the server answers "05 00"

      Examples:
        | case                             | request                                           | target           |
        | an IPv4 address                  | 05 01 00 01 7f000001 0050                         | 127.0.0.1:80     |
        | a name                           | 05 01 00 03 0b 'example.com' 01bb                 | example.com:443  |
        | an IPv6 address                  | 05 01 00 04 20010db8000000000000000000000001 0050 | [2001:db8::1]:80 |
        | an address written as a name     | 05 01 00 03 09 '127.0.0.1' 0050                   | 127.0.0.1:80     |
        | an IPv4 address in IPv6 clothes  | 05 01 00 04 00000000000000000000ffff7f000001 0050 | 127.0.0.1:80     |
        | a reserved byte that is not zero | 05 01 ff 01 7f000001 0050                         | 127.0.0.1:80     |

    Scenario: To relay datagrams
      Given a server that lets everybody in
      When the client sends "05 01 00"
      And the client sends "05 03 00 01 00000000 0000"
      Then the server wants a relay for "0.0.0.0:0"

    Scenario Outline: What is not supported is said so: <case>
      Given a server that lets everybody in
      When the client sends "05 01 00"
      And the client sends "<request>"
      Then the server answers "05 00  05 <code> 00 01 00000000 0000"
      And the session is "closed"

      Examples:
        | case                       | request                      | code |
        | BIND                       | 05 02 00 01 7f000001 0050    | 07   |
        | an unknown command         | 05 09 00 01 7f000001 0050    | 07   |
        | an unknown kind of address | 05 01 00 05                  | 08   |
        | an empty name              | 05 01 00 03 00 0050          | 01   |
        | a NUL in a name            | 05 01 00 03 03 61 00 62 0050 | 01   |

  Rule: The reply tells the truth (RFC 1928, section 6)

    Background:
      Given a server that lets everybody in
      And the client sends "05 01 00"
      And the client sends "05 01 00 01 7f000001 0050"

    Scenario: Nothing is replied before the target has answered
      Then the server answers "05 00"

    Scenario: A connection is told with our own address
      When the connection stands, from "192.0.2.1:4000"
      Then the server answers "05 00  05 00 00 01 c0000201 0fa0"
      And the session is "open"

    Scenario: Our own address may be an IPv6 address
      When the connection stands, from "[2001:db8::1]:1"
      Then the server answers "05 00  05 00 00 04 20010db8000000000000000000000001 0001"

    Scenario Outline: A failure has its own code: <failure>
      When the connection fails with <code>
      Then the server answers "05 00  05 0<code> 00 01 00000000 0000"
      And the session is "closed"

      Examples:
        | failure                    | code |
        | nothing more is known      | 1    |
        | forbidden by rule          | 2    |
        | the network is unreachable | 3    |
        | the host is unreachable    | 4    |
        | the target refuses         | 5    |
        | the target does not answer | 6    |

    Scenario: What was sent ahead reaches the target
      When the client sends "'GET /'"
      And the connection stands, from "10.0.0.1:80"
      Then "'GET /'" goes on to the target

  Rule: A SOCKS4 client is served on the same port

    Scenario Outline: A request of version 4: <case>
      Given a server that lets everybody in
      When the client sends "<request>"
      Then the server wants a connection to "<target>"
      When the connection stands, from "10.0.0.1:80"
      Then the server answers "00 5a 0050 0a000001"

      Examples:
        | case       | request                                      | target         |
        | an address | 04 01 0050 7f000001 'me' 00                  | 127.0.0.1:80   |
        | a name     | 04 01 0050 00000001 'me' 00 'example.com' 00 | example.com:80 |

    Scenario: It carries no password, and is refused where one is wanted
      Given a server that wants the user "user" with the password "pass"
      When the client sends "04 01 0050 7f000001 00"
      Then the server answers "00 5b 0000 00000000"
      And the session is "closed"

  Rule: A datagram carries its own address (RFC 1928, section 7)

    Scenario Outline: A datagram goes on: <case>
      When the relay gets the datagram "<datagram>"
      Then "<payload>" goes to "<target>"

      Examples:
        | case         | datagram                                              | payload | target           |
        | IPv4         | 0000 00 01 7f000001 0035 'hi'                         | 'hi'    | 127.0.0.1:53     |
        | a name       | 0000 00 03 01 'a' 0035 'hi'                           | 'hi'    | a:53             |
        | IPv6         | 0000 00 04 20010db8000000000000000000000001 0035 'hi' | 'hi'    | [2001:db8::1]:53 |
        | without data | 0000 00 01 7f000001 0035                              |         | 127.0.0.1:53     |

    Scenario Outline: A datagram is dropped: <case>
      When the relay gets the datagram "<datagram>"
      Then it is dropped

      Examples:
        | case                       | datagram                      |
        | it is a fragment           | 0000 01 01 7f000001 0035 'hi' |
        | it ends within its header  | 0000 00 01 7f0000             |
        | an unknown kind of address | 0000 00 05 7f000001 0035 'hi' |
        | nothing                    |                               |
