Feature: Customer withdraws cash
  As a customer
  I want to withdraw cash from a cash machine
  So that I do not have to wait in line at the bank

  Background:
    Given the card is valid

  Rule: Cash is paid out of an account in credit

    Scenario: The account is in credit
      Given the account balance is 100
      And the dispenser contains 500
      When the customer requests 20
      Then ensure the account balance is 80
      And ensure 20 is dispensed
      And ensure the card is returned

    Scenario Outline: Amounts up to the balance are paid
      Given the account balance is <balance>
      And the dispenser contains <cash>
      When the customer requests <amount>
      Then ensure the account balance is <rest>
      And ensure <amount> is dispensed
      And ensure the card is returned

      Examples:
        | balance | cash | amount | rest |
        | 100     | 500  | 100    | 0    |
        | 80      | 50   | 50     | 30   |

  Rule: What cannot be paid is refused with its reason

    Scenario Outline: The machine refuses
      Given the account balance is <balance>
      And the dispenser contains <cash>
      When the customer requests <amount>
      Then ensure the machine says "<reason>"
      And ensure the account balance is <balance>
      And ensure 0 is dispensed
      And ensure the card is returned

      Examples:
        | balance | cash | amount | reason                     |
        | 10      | 500  | 20     | not enough money           |
        | 100     | 10   | 20     | not enough cash            |
        | 100     | 500  | 0      | the amount is not positive |

    Scenario: A stolen card is kept
      Given the account balance is 100
      And the dispenser contains 500
      But the card is reported stolen
      When the customer requests 20
      Then ensure the machine says "the card is not valid"
      And ensure the account balance is 100
      And ensure 0 is dispensed
      And ensure the card is kept
