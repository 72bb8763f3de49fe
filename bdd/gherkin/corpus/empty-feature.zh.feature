# language: zh-CN
功能: 取款
