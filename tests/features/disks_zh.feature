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

  场景: 磁盘在机器运行时接入、扩容、拔出
    假如一个 32 MiB 的磁盘 "late"，格式为 qcow2
    而且一台带磁盘驱动的小型 Linux 机器
    而且机器有 1 个热插槽
    当机器启动到命令行并装入驱动
    而且我热插设备 "late"，参数：
      | serial | late |
    那么客户机看到磁盘 "late"
    当我把磁盘 "late" 扩容到 48 MiB
    那么客户机看到 48 MiB 的磁盘 "late"
    当我运行 "echo 来过 | dd of=/dev/vda bs=512 conv=sync,fsync"
    而且我拔出设备 "late"
    那么客户机看不到磁盘 "late"
    而且磁盘 "late" 上有 "来过"
    而且镜像 "late" 完好

  场景: 坏盘对客户机报错，修好后照常使用
    假如一个 16 MiB 的磁盘 "worn"
    而且一台带磁盘驱动的小型 Linux 机器
    而且机器有磁盘 "worn"
    当机器启动到命令行并装入驱动
    而且宿主机磁盘对 "worn" 返回读写错误
    而且我尝试运行 "dd if=/dev/vda of=/dev/null bs=4096 skip=2000 count=1"
    那么命令失败
    而且输出包含 "I/O error"
    当宿主机磁盘对 "worn" 恢复正常
    而且我运行 "dd if=/dev/vda of=/dev/null bs=4096 skip=2000 count=1"
    那么机器处于运行状态

  场景: 机器在运行时归还内存
    假如一台带磁盘驱动的小型 Linux 机器
    而且机器有内存气球
    当机器启动到命令行并装入驱动
    那么客户机有至少 50 MiB 空闲内存
    当我把机器调整为 80 MiB 内存
    那么客户机没有至少 50 MiB 空闲内存
    当我把机器调整为 128 MiB 内存
    那么客户机有至少 50 MiB 空闲内存
