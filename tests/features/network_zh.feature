# language: zh-CN
@guest
功能: 机器有自己的网络
  作为在机器里运行陌生程序的人
  我想要它的网络不需要特权，只到我允许的地方
  以便没有什么去了我没有让它去的地方

  背景:
    假如一台带网卡驱动的小型 Linux 机器

  场景: 客户机获得地址，宿主机的端口通向客户机
    假如机器有一块网卡
    而且宿主机的空闲端口 "网页" 转发到客户机端口 80
    当机器启动到命令行并请求地址
    那么机器获得地址
    当我运行 "mkdir /www; echo 客栈 >/www/hello; httpd -p 80 -h /www"
    那么机器的端口 80 有应答
    而且"http://127.0.0.1:${网页}/hello" 返回 200
    而且响应体包含 "客栈"
    当我拔掉网线
    而且我运行 "until grep -q 0 /sys/class/net/eth0/carrier; do sleep 0.1; done"
    而且我插上网线
    而且我运行 "until grep -q 1 /sys/class/net/eth0/carrier; do sleep 0.1; done"
    那么机器的端口 80 有应答
    而且除以下目标外机器没有发出任何数据包：
      | 无 |

  场景: 没有网卡就没有网络
    假如机器没有网卡
    当机器启动到命令行
    而且我运行 "ls /sys/class/net"
    那么输出不包含 "eth"
