Feature: The cash machine's service
  As a bank
  I want the cash machine to be a service
  So that every channel keeps the same rules

  Background:
    Given the program "${env:ATM_PROGRAM} 127.0.0.1:0" runs in the background as "atm"
    And the program "atm" tells its address as "atm"
    And the API is at "${atm}"

  @happy
  Scenario: Cash is paid out of an account in credit
    When I POST /v1/withdrawals with:
      """json
      {"card": "4000001", "amount": 20}
      """
    Then the API answers 201 with:
      """json
      {"dispensed": 20, "balance": "#number"}
      """
    When I GET /v1/accounts/4000001
    Then the API answers 200
    And the response has:
      | /balance    | 980  |
      | /card_valid | true |

  Scenario Outline: The service refuses
    When I POST /v1/withdrawals with:
      """json
      {"card": "<card>", "amount": <amount>}
      """
    Then the API answers <status> with problem "<problem>"

    Examples:
      | card    | amount | status | problem             |
      | 4000001 | 5000   | 409    | not-enough-money    |
      | 4000002 | 20     | 403    | card-not-valid      |
      | 4999999 | 20     | 404    | unknown-card        |
      | 4000001 | 0      | 400    | amount-not-positive |

  Scenario: A card that nobody has opens no account
    When I GET /v1/accounts/4999999
    Then the API answers 404 with problem "unknown-card"

  Scenario: Only JSON is understood
    When I POST /v1/withdrawals with:
      """text/plain
      twenty, please
      """
    Then the API answers 415 with problem "unsupported-media-type"

  Scenario: The contract is served
    When I GET /openapi.json
    Then the API answers 200
    And the response has:
      | /openapi | #regex ^3\\.1 |
