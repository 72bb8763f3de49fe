// Package features holds the cash machine and the tests grown from its features.
package features

// Amounts are whole units of the currency.

// Refusal says why a withdrawal was refused, in English and Chinese.
type Refusal struct {
	English  string
	Chinese  string
	CardKept bool
}

// The reasons for which a withdrawal is refused.
var (
	CardNotValid      = &Refusal{English: "the card is not valid", Chinese: "卡片无效", CardKept: true}
	AmountNotPositive = &Refusal{English: "the amount is not positive", Chinese: "金额必须为正"}
	NotEnoughMoney    = &Refusal{English: "not enough money", Chinese: "余额不足"}
	NotEnoughCash     = &Refusal{English: "not enough cash", Chinese: "现金不足"}
)

// Atm is a cash machine with one account.
type Atm struct {
	Cash       int64
	Balance    int64
	CardStolen bool
}

// Withdraw pays out cash and debits the account, or does neither.
func (atm *Atm) Withdraw(amount int64) (dispensed int64, refusal *Refusal) {
	switch {
	case atm.CardStolen:
		return 0, CardNotValid
	case amount <= 0:
		return 0, AmountNotPositive
	case amount > atm.Balance:
		return 0, NotEnoughMoney
	case amount > atm.Cash:
		return 0, NotEnoughCash
	}
	atm.Balance -= amount
	atm.Cash -= amount
	return amount, nil
}
