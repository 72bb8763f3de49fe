# language: zh-CN
功能: 取款
  场景: 取出现金
    假如账户余额为 100:
      """json
      {"a": "\"\"\"", "b": "\`\`\`"}
      """
    当客户取款 20:
      ``` application/x-sh ; charset=utf-8  
      echo \`\`\` \"\"\"
      ```
