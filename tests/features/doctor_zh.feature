# language: zh-CN
功能: 医生与命令行
  作为初次使用客栈的人
  我想要知道这台主机能做什么、我输错了什么
  以便自己修好

  场景: 医生说明这台主机能做什么
    当我尝试在宿主机上运行 "kezhan doctor"
    那么输出包含 "/dev/kvm"
    而且输出匹配 /Guests run on this host with the (kvm|soft) engine/

  场景: 医生也对程序说话
    当我尝试在宿主机上运行 "kezhan doctor --json"
    那么输出匹配 /"engine": "(kvm|soft)"/

  场景大纲: 输错的内容连同其值被指出
    当我尝试在宿主机上运行 "kezhan run <参数>"
    那么命令退出码为 2
    而且输出包含 "<指出>"

    例子:
      | 参数                  | 指出         |
      | --kernel /nonexistent | /nonexistent |
      | --memory 5X           | 5X           |
      | --engine magic        | magic        |
