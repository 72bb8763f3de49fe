//! The steps of features/withdraw.feature. This file is yours: it is written once and never touched again.

use super::WithdrawSteps;
use atm::bank::{Account, Atm, Card, CardState, Refusal, Withdrawal};

const CARD: &str = "4000001";

/// What the steps of one scenario share; each scenario begins with a new one.
pub struct World {
    atm: Atm,
    account: Account,
    outcome: Option<Result<Withdrawal, Refusal>>,
}

impl Default for World {
    fn default() -> World {
        World { atm: Atm::default(), account: Account { balance: 0, card: CardState::Valid }, outcome: None }
    }
}

impl World {
    fn outcome(&self) -> Result<Withdrawal, Refusal> {
        self.outcome.expect("the customer has requested nothing yet")
    }

    fn card(&self) -> Card {
        match self.outcome() {
            Ok(_) => Card::Returned,
            Err(refusal) => refusal.card(),
        }
    }
}

impl WithdrawSteps for World {
    fn the_card_is_valid(&mut self) {
        self.account.card = CardState::Valid;
    }

    fn the_account_balance_is(&mut self, number: i64) {
        self.account.balance = number;
    }

    fn the_dispenser_contains(&mut self, number: i64) {
        self.atm.cash = number;
    }

    fn the_card_is_reported_stolen(&mut self) {
        self.account.card = CardState::ReportedStolen;
    }

    fn the_customer_requests(&mut self, number: i64) {
        self.atm.accounts.insert(CARD.to_owned(), self.account.clone());
        self.outcome = Some(self.atm.withdraw(CARD, number));
    }

    fn ensure_the_account_balance_is(&mut self, number: i64) {
        assert_eq!(self.atm.accounts[CARD].balance, number);
    }

    fn ensure_is_dispensed(&mut self, number: i64) {
        let dispensed = match self.outcome() {
            Ok(withdrawal) => withdrawal.dispensed,
            Err(_) => 0,
        };
        assert_eq!(dispensed, number);
    }

    fn ensure_the_card_is_returned(&mut self) {
        assert_eq!(self.card(), Card::Returned);
    }

    fn ensure_the_card_is_kept(&mut self) {
        assert_eq!(self.card(), Card::Kept);
    }

    fn ensure_the_machine_says(&mut self, reason: &str) {
        assert_eq!(self.outcome().expect_err("the machine paid").to_string(), reason);
    }
}
