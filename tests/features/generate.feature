Feature: Sentences become unit tests
  As a developer who works test first
  I want unit tests made of sentences, red until I have written what they say
  So that I know at each moment what to write next

  Background:
    Given a file "features/tea.feature" with:
      """gherkin
      Feature: Tea
        Scenario: A cup
          Given the kettle is full
          When I pour 2 cups
          Then 1 litre is left
      """

  Scenario Outline: From an empty folder, the test is red at its first missing step: <language>
    When I run "kezhan bdd generate --lang <language> --out <folder> features" on the host
    And I try to run "cd <folder> && <test>" on the host
    Then the command fails
    And the output contains "the kettle is full"
    And the output contains "is not written yet"

    Examples:
      | language | folder | test                                                    |
      | rust     | tests  | rustc --edition 2024 --test features.rs -o run && ./run |
      | go       | go     | printf 'module tea\ngo 1.19\n' >go.mod && go test ./... |
      | python   | python | ${env:PYTHON} -m pytest -q -p no:cacheprovider          |

  Scenario: With the steps written it is green, and what a person wrote is kept
    Given a file "tests/steps/tea.rs" with:
      """rust
      use super::TeaSteps;

      #[derive(Default)]
      pub struct World {
          decilitres: i64,
      }

      impl TeaSteps for World {
          fn the_kettle_is_full(&mut self) {
              self.decilitres = 14;
          }

          fn i_pour_cups(&mut self, number: i64) {
              self.decilitres -= 2 * number;
          }

          fn litre_is_left(&mut self, number: i64) {
              assert_eq!(self.decilitres, 10 * number);
          }
      }
      """
    When I run "kezhan bdd generate --lang rust features" on the host
    Then the output contains "tests/steps/tea.rs: kept (yours)"
    When I run "cd tests && rustc --edition 2024 --test features.rs -o run && ./run" on the host
    Then the output contains "1 passed"
    When I run "kezhan bdd generate --check --lang rust features" on the host
    Then the output does not contain "stale"
    When I run "sed -i 's/A cup/A large cup/' features/tea.feature" on the host
    And I try to run "kezhan bdd generate --check --lang rust features" on the host
    Then the command exits with 1
    And the output contains "stale"

  Scenario Outline: Strictly, all that is missing is listed at once: <language>
    When I run "kezhan bdd generate --strict --lang <language> --out <folder> features" on the host
    And I try to run "cd <folder> && <test>" on the host
    Then the command fails
    And the output contains "<first>"
    And the output contains "<second>"
    And the output contains "<third>"

    Examples:
      | language | folder | test                                                    | first              | second      | third         |
      | rust     | tests  | rustc --edition 2024 --test features.rs -o run          | the_kettle_is_full | i_pour_cups | litre_is_left |
      | go       | go     | printf 'module tea\ngo 1.19\n' >go.mod && go test ./... | TheKettleIsFull    | IPourCups   | LitreIsLeft   |
      | python   | python | ${env:PYTHON} -m pytest -q -p no:cacheprovider          | the_kettle_is_full | i_pour_cups | litre_is_left |
