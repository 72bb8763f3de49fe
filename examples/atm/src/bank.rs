//! The business: accounts, cards, and a machine with cash in it.
//!
//! Amounts are whole units of the currency. Nothing here knows of HTTP.

use std::collections::BTreeMap;
use std::fmt;

/// What is written on a card.
pub type CardNumber = String;

/// Whether a card may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CardState {
    Valid,
    ReportedStolen,
}

/// An account and the card that opens it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    pub balance: i64,
    pub card: CardState,
}

/// Where the card went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Card {
    Returned,
    Kept,
}

/// A withdrawal that was paid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Withdrawal {
    pub dispensed: i64,
    pub balance: i64,
}

/// Why a withdrawal was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    UnknownCard,
    CardNotValid,
    AmountNotPositive,
    NotEnoughMoney,
    NotEnoughCash,
}

impl Refusal {
    /// Where the card goes: a card that is not valid stays in the machine.
    pub fn card(self) -> Card {
        match self {
            Refusal::CardNotValid => Card::Kept,
            _ => Card::Returned,
        }
    }

    /// The same in Chinese.
    pub fn in_chinese(self) -> &'static str {
        match self {
            Refusal::UnknownCard => "卡片未知",
            Refusal::CardNotValid => "卡片无效",
            Refusal::AmountNotPositive => "金额必须为正",
            Refusal::NotEnoughMoney => "余额不足",
            Refusal::NotEnoughCash => "现金不足",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refusal::UnknownCard => "the card is not known",
            Refusal::CardNotValid => "the card is not valid",
            Refusal::AmountNotPositive => "the amount is not positive",
            Refusal::NotEnoughMoney => "not enough money",
            Refusal::NotEnoughCash => "not enough cash",
        })
    }
}

/// A cash machine and the accounts that it can reach.
#[derive(Clone, Debug, Default)]
pub struct Atm {
    pub cash: i64,
    pub accounts: BTreeMap<CardNumber, Account>,
}

impl Atm {
    /// Pays out cash and debits the account, or does neither.
    pub fn withdraw(&mut self, card: &str, amount: i64) -> Result<Withdrawal, Refusal> {
        let Some(account) = self.accounts.get_mut(card) else {
            return Err(Refusal::UnknownCard);
        };
        if account.card != CardState::Valid {
            return Err(Refusal::CardNotValid);
        }
        if amount <= 0 {
            return Err(Refusal::AmountNotPositive);
        }
        if amount > account.balance {
            return Err(Refusal::NotEnoughMoney);
        }
        if amount > self.cash {
            return Err(Refusal::NotEnoughCash);
        }
        account.balance -= amount;
        self.cash -= amount;
        Ok(Withdrawal { dispensed: amount, balance: account.balance })
    }
}
