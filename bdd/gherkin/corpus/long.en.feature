Feature: Cash

  @n0
  Scenario: withdraw cash 0
    Given the account holds 100 0
    When the customer asks for 20
    Then the machine pays 20 0

  @n1
  Scenario: withdraw cash 1
    Given the account holds 100 1
    When the customer asks for 20
    Then the machine pays 20 20

  @n2
  Scenario: withdraw cash 2
    Given the account holds 100 2
    When the customer asks for 20
    Then the machine pays 20 40

  @n3
  Scenario: withdraw cash 3
    Given the account holds 100 3
    When the customer asks for 20
    Then the machine pays 20 60

  @n4
  Scenario: withdraw cash 4
    Given the account holds 100 4
    When the customer asks for 20
    Then the machine pays 20 80

  @n5
  Scenario: withdraw cash 5
    Given the account holds 100 5
    When the customer asks for 20
    Then the machine pays 20 100

  @n6
  Scenario: withdraw cash 6
    Given the account holds 100 6
    When the customer asks for 20
    Then the machine pays 20 120

  @n7
  Scenario: withdraw cash 7
    Given the account holds 100 7
    When the customer asks for 20
    Then the machine pays 20 140

  @n8
  Scenario: withdraw cash 8
    Given the account holds 100 8
    When the customer asks for 20
    Then the machine pays 20 160

  @n9
  Scenario: withdraw cash 9
    Given the account holds 100 9
    When the customer asks for 20
    Then the machine pays 20 180

  @n10
  Scenario: withdraw cash 10
    Given the account holds 100 10
    When the customer asks for 20
    Then the machine pays 20 200

  @n11
  Scenario: withdraw cash 11
    Given the account holds 100 11
    When the customer asks for 20
    Then the machine pays 20 220

  @n12
  Scenario: withdraw cash 12
    Given the account holds 100 12
    When the customer asks for 20
    Then the machine pays 20 240

  @n13
  Scenario: withdraw cash 13
    Given the account holds 100 13
    When the customer asks for 20
    Then the machine pays 20 260

  @n14
  Scenario: withdraw cash 14
    Given the account holds 100 14
    When the customer asks for 20
    Then the machine pays 20 280

  @n15
  Scenario: withdraw cash 15
    Given the account holds 100 15
    When the customer asks for 20
    Then the machine pays 20 300

  @n16
  Scenario: withdraw cash 16
    Given the account holds 100 16
    When the customer asks for 20
    Then the machine pays 20 320

  @n17
  Scenario: withdraw cash 17
    Given the account holds 100 17
    When the customer asks for 20
    Then the machine pays 20 340

  @n18
  Scenario: withdraw cash 18
    Given the account holds 100 18
    When the customer asks for 20
    Then the machine pays 20 360

  @n19
  Scenario: withdraw cash 19
    Given the account holds 100 19
    When the customer asks for 20
    Then the machine pays 20 380

  @n20
  Scenario: withdraw cash 20
    Given the account holds 100 20
    When the customer asks for 20
    Then the machine pays 20 400

  @n21
  Scenario: withdraw cash 21
    Given the account holds 100 21
    When the customer asks for 20
    Then the machine pays 20 420

  @n22
  Scenario: withdraw cash 22
    Given the account holds 100 22
    When the customer asks for 20
    Then the machine pays 20 440

  @n23
  Scenario: withdraw cash 23
    Given the account holds 100 23
    When the customer asks for 20
    Then the machine pays 20 460

  @n24
  Scenario: withdraw cash 24
    Given the account holds 100 24
    When the customer asks for 20
    Then the machine pays 20 480

  @n25
  Scenario: withdraw cash 25
    Given the account holds 100 25
    When the customer asks for 20
    Then the machine pays 20 500

  @n26
  Scenario: withdraw cash 26
    Given the account holds 100 26
    When the customer asks for 20
    Then the machine pays 20 520

  @n27
  Scenario: withdraw cash 27
    Given the account holds 100 27
    When the customer asks for 20
    Then the machine pays 20 540

  @n28
  Scenario: withdraw cash 28
    Given the account holds 100 28
    When the customer asks for 20
    Then the machine pays 20 560

  @n29
  Scenario: withdraw cash 29
    Given the account holds 100 29
    When the customer asks for 20
    Then the machine pays 20 580

  @n30
  Scenario: withdraw cash 30
    Given the account holds 100 30
    When the customer asks for 20
    Then the machine pays 20 600

  @n31
  Scenario: withdraw cash 31
    Given the account holds 100 31
    When the customer asks for 20
    Then the machine pays 20 620

  @n32
  Scenario: withdraw cash 32
    Given the account holds 100 32
    When the customer asks for 20
    Then the machine pays 20 640

  @n33
  Scenario: withdraw cash 33
    Given the account holds 100 33
    When the customer asks for 20
    Then the machine pays 20 660

  @n34
  Scenario: withdraw cash 34
    Given the account holds 100 34
    When the customer asks for 20
    Then the machine pays 20 680

  @n35
  Scenario: withdraw cash 35
    Given the account holds 100 35
    When the customer asks for 20
    Then the machine pays 20 700

  @n36
  Scenario: withdraw cash 36
    Given the account holds 100 36
    When the customer asks for 20
    Then the machine pays 20 720

  @n37
  Scenario: withdraw cash 37
    Given the account holds 100 37
    When the customer asks for 20
    Then the machine pays 20 740

  @n38
  Scenario: withdraw cash 38
    Given the account holds 100 38
    When the customer asks for 20
    Then the machine pays 20 760

  @n39
  Scenario: withdraw cash 39
    Given the account holds 100 39
    When the customer asks for 20
    Then the machine pays 20 780

  @n40
  Scenario: withdraw cash 40
    Given the account holds 100 40
    When the customer asks for 20
    Then the machine pays 20 800

  @n41
  Scenario: withdraw cash 41
    Given the account holds 100 41
    When the customer asks for 20
    Then the machine pays 20 820

  @n42
  Scenario: withdraw cash 42
    Given the account holds 100 42
    When the customer asks for 20
    Then the machine pays 20 840

  @n43
  Scenario: withdraw cash 43
    Given the account holds 100 43
    When the customer asks for 20
    Then the machine pays 20 860

  @n44
  Scenario: withdraw cash 44
    Given the account holds 100 44
    When the customer asks for 20
    Then the machine pays 20 880

  @n45
  Scenario: withdraw cash 45
    Given the account holds 100 45
    When the customer asks for 20
    Then the machine pays 20 900

  @n46
  Scenario: withdraw cash 46
    Given the account holds 100 46
    When the customer asks for 20
    Then the machine pays 20 920

  @n47
  Scenario: withdraw cash 47
    Given the account holds 100 47
    When the customer asks for 20
    Then the machine pays 20 940

  @n48
  Scenario: withdraw cash 48
    Given the account holds 100 48
    When the customer asks for 20
    Then the machine pays 20 960

  @n49
  Scenario: withdraw cash 49
    Given the account holds 100 49
    When the customer asks for 20
    Then the machine pays 20 980

  @n50
  Scenario: withdraw cash 50
    Given the account holds 100 50
    When the customer asks for 20
    Then the machine pays 20 1000

  @n51
  Scenario: withdraw cash 51
    Given the account holds 100 51
    When the customer asks for 20
    Then the machine pays 20 1020

  @n52
  Scenario: withdraw cash 52
    Given the account holds 100 52
    When the customer asks for 20
    Then the machine pays 20 1040

  @n53
  Scenario: withdraw cash 53
    Given the account holds 100 53
    When the customer asks for 20
    Then the machine pays 20 1060

  @n54
  Scenario: withdraw cash 54
    Given the account holds 100 54
    When the customer asks for 20
    Then the machine pays 20 1080

  @n55
  Scenario: withdraw cash 55
    Given the account holds 100 55
    When the customer asks for 20
    Then the machine pays 20 1100

  @n56
  Scenario: withdraw cash 56
    Given the account holds 100 56
    When the customer asks for 20
    Then the machine pays 20 1120

  @n57
  Scenario: withdraw cash 57
    Given the account holds 100 57
    When the customer asks for 20
    Then the machine pays 20 1140

  @n58
  Scenario: withdraw cash 58
    Given the account holds 100 58
    When the customer asks for 20
    Then the machine pays 20 1160

  @n59
  Scenario: withdraw cash 59
    Given the account holds 100 59
    When the customer asks for 20
    Then the machine pays 20 1180
