"""The steps of features/withdraw_zh.feature. This file is yours: it is written once and never touched again."""

from atm import Atm, Refusal
from generated_withdraw_zh import WithdrawZhSteps


class World(WithdrawZhSteps):
    """一个场景的各步骤共用的内容；每个场景从新的开始。"""

    def __init__(self):
        self.取款机 = Atm()
        self.付出 = 0
        self.拒绝 = None

    def 卡片有效(self):
        self.取款机.card_stolen = False

    def 账户余额为_元(self, number: int):
        self.取款机.balance = number

    def 取款机里有_元(self, number: int):
        self.取款机.cash = number

    def 卡片已挂失(self):
        self.取款机.card_stolen = True

    def 客户取款_元(self, number: int):
        try:
            self.付出 = self.取款机.withdraw(number)
        except Refusal as 拒绝:
            self.拒绝 = 拒绝

    def 账户余额应为_元(self, number: int):
        assert self.取款机.balance == number

    def 应付出_元(self, number: int):
        assert self.付出 == number

    def 应退还卡片(self):
        assert self.拒绝 is None or not self.拒绝.card_kept

    def 应扣留卡片(self):
        assert self.拒绝 is not None and self.拒绝.card_kept

    def 取款机应显示(self, 原因: str):
        assert self.拒绝 is not None and self.拒绝.chinese == 原因
