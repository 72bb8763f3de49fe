# language: zh-CN
@guest
功能: 机器的磁盘
  作为使用虚拟机的人
  我想要磁盘留住客户机写下的内容
  以便数据就在原处

  场景: 从 Debian 启动，登录，运行命令，重启后不认旧提示符
    假如一台 Debian 机器
    而且用以下 cloud-init 配置机器：
      """yaml
      #cloud-config
      hostname: 客栈
      """
    当我启动机器
    而且我在控制台以 "root" 身份登录
    而且我运行 "cat /etc/debian_version; uname -s"
    那么输出匹配 /^12\.[0-9]+$/
    而且输出匹配 /^Linux$/
    当我运行 "mount -o ro,utf8 /dev/disk/by-label/CIDATA /mnt; cat /mnt/user-data /mnt/meta-data"
    那么输出包含 "hostname: 客栈"
    而且输出包含 "instance-id: machine"
    当我运行 "echo 写下的 >/root/留言"
    而且我在控制台输入 "systemctl reboot" 并回车
    而且我在控制台以 "root" 身份登录
    而且我运行 "cat /root/留言; cut -d. -f1 /proc/uptime"
    那么输出包含 "写下的"
    而且控制台日志中没有匹配 /Kernel panic|BUG:|Oops/ 的行
    当我按下电源按钮
    那么机器在 120 秒内正常关机

  场景: 客户机看到磁盘，宿主机看到客户机所写
    假如一个 64 MiB 的磁盘 "data"，格式为 qcow2
    而且一台带磁盘驱动的小型 Linux 机器
    而且机器有磁盘 "data"
    当机器启动到命令行并装入驱动
    而且我运行 "cat /sys/block/vda/size"
    那么输出匹配 /^131072$/
    当我运行 "echo kept | dd of=/dev/vda bs=512 conv=sync,fsync"
    而且我在控制台输入 "poweroff -f" 并回车
    那么机器正常关机
    而且磁盘 "data" 上有 "kept"
    而且镜像 "data" 完好
    而且qemu-img 接受镜像 "data"
