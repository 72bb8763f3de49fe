# language: zh-CN
功能: 句子变成单元测试
  作为测试先行的开发者
  我想要由句子生成的单元测试，在写完之前一直是红的
  以便随时知道下一步写什么

  背景:
    假如一个文件 "features/茶.feature"，内容如下：
      """gherkin
      # language: zh-CN
      功能: 茶
        场景: 一杯
          假如水壶是满的
          当我倒 2 杯
          那么还剩 1 升
      """

  场景大纲: 从空文件夹开始，测试在第一个缺失的步骤处变红：<语言>
    当我在宿主机上运行 "kezhan bdd generate --lang <语言> --out <文件夹> features"
    而且我尝试在宿主机上运行 "cd <文件夹> && <测试>"
    那么命令失败
    而且输出包含 "水壶是满的"
    而且输出包含 "is not written yet"

    例子:
      | 语言   | 文件夹 | 测试                                                    |
      | rust   | tests  | rustc --edition 2024 --test features.rs -o run && ./run |
      | go     | go     | printf 'module tea\ngo 1.19\n' >go.mod && go test ./... |
      | python | python | ${env:PYTHON} -m pytest -q -p no:cacheprovider          |
