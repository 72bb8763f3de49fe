Feature: x
  Scenario: y <a>
    Given <a>
    Examples: z
      # c
      d
      # e
      | a |

      # f
      | 1 |
