#language:zh-CN
功能: 取款
  Rule: 英文规则
    场景: 一
      假如 有空格
      当   很多空格
