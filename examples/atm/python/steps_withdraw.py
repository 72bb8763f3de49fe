"""The steps of features/withdraw.feature. This file is yours: it is written once and never touched again."""

from atm import Atm, Refusal
from generated_withdraw import WithdrawSteps


class World(WithdrawSteps):
    """What the steps of one scenario share; each scenario begins with a new one."""

    def __init__(self):
        self.atm = Atm()
        self.dispensed = 0
        self.refusal = None

    def the_card_is_valid(self):
        self.atm.card_stolen = False

    def the_account_balance_is(self, number: int):
        self.atm.balance = number

    def the_dispenser_contains(self, number: int):
        self.atm.cash = number

    def the_card_is_reported_stolen(self):
        self.atm.card_stolen = True

    def the_customer_requests(self, number: int):
        try:
            self.dispensed = self.atm.withdraw(number)
        except Refusal as refusal:
            self.refusal = refusal

    def ensure_the_account_balance_is(self, number: int):
        assert self.atm.balance == number

    def ensure_is_dispensed(self, number: int):
        assert self.dispensed == number

    def ensure_the_card_is_returned(self):
        assert self.refusal is None or not self.refusal.card_kept

    def ensure_the_card_is_kept(self):
        assert self.refusal is not None and self.refusal.card_kept

    def ensure_the_machine_says(self, reason: str):
        assert self.refusal is not None and self.refusal.english == reason
