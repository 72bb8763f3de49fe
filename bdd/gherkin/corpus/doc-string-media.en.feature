Feature: Cash
  Scenario: withdraw cash
    Given the account holds 100:
      """json
      {"a": "\"\"\"", "b": "\`\`\`"}
      """
    When the customer asks for 20:
      ``` application/x-sh ; charset=utf-8  
      echo \`\`\` \"\"\"
      ```
