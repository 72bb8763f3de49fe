//! The steps of features/withdraw_zh.feature. This file is yours: it is written once and never touched again.

use super::WithdrawZhSteps;
use atm::bank::{Account, Atm, Card, CardState, Refusal, Withdrawal};

const CARD: &str = "4000001";

/// 一个场景的各步骤共用的内容；每个场景从新的开始。
pub struct World {
    取款机: Atm,
    账户: Account,
    结果: Option<Result<Withdrawal, Refusal>>,
}

impl Default for World {
    fn default() -> World {
        World { 取款机: Atm::default(), 账户: Account { balance: 0, card: CardState::Valid }, 结果: None }
    }
}

impl World {
    fn 结果(&self) -> Result<Withdrawal, Refusal> {
        self.结果.expect("客户还没有取款")
    }

    fn 卡片去向(&self) -> Card {
        match self.结果() {
            Ok(_) => Card::Returned,
            Err(refusal) => refusal.card(),
        }
    }
}

impl WithdrawZhSteps for World {
    fn 卡片有效(&mut self) {
        self.账户.card = CardState::Valid;
    }

    fn 账户余额为_元(&mut self, number: i64) {
        self.账户.balance = number;
    }

    fn 取款机里有_元(&mut self, number: i64) {
        self.取款机.cash = number;
    }

    fn 卡片已挂失(&mut self) {
        self.账户.card = CardState::ReportedStolen;
    }

    fn 客户取款_元(&mut self, number: i64) {
        self.取款机.accounts.insert(CARD.to_owned(), self.账户.clone());
        self.结果 = Some(self.取款机.withdraw(CARD, number));
    }

    fn 账户余额应为_元(&mut self, number: i64) {
        assert_eq!(self.取款机.accounts[CARD].balance, number);
    }

    fn 应付出_元(&mut self, number: i64) {
        let 付出 = match self.结果() {
            Ok(withdrawal) => withdrawal.dispensed,
            Err(_) => 0,
        };
        assert_eq!(付出, number);
    }

    fn 应退还卡片(&mut self) {
        assert_eq!(self.卡片去向(), Card::Returned);
    }

    fn 应扣留卡片(&mut self) {
        assert_eq!(self.卡片去向(), Card::Kept);
    }

    fn 取款机应显示(&mut self, 原因: &str) {
        assert_eq!(self.结果().expect_err("取款机付款了").in_chinese(), 原因);
    }
}
