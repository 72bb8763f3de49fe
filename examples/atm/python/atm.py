"""The cash machine. Amounts are whole units of the currency."""

from dataclasses import dataclass


class Refusal(Exception):
    """Why a withdrawal was refused, in English and Chinese."""

    def __init__(self, english, chinese, card_kept=False):
        super().__init__(english)
        self.english = english
        self.chinese = chinese
        self.card_kept = card_kept


@dataclass
class Atm:
    """A cash machine with one account."""

    cash: int = 0
    balance: int = 0
    card_stolen: bool = False

    def withdraw(self, amount):
        """Pays out cash and debits the account, or does neither."""
        if self.card_stolen:
            raise Refusal("the card is not valid", "卡片无效", card_kept=True)
        if amount <= 0:
            raise Refusal("the amount is not positive", "金额必须为正")
        if amount > self.balance:
            raise Refusal("not enough money", "余额不足")
        if amount > self.cash:
            raise Refusal("not enough cash", "现金不足")
        self.balance -= amount
        self.cash -= amount
        return amount
