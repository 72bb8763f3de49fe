// The steps of features/withdraw_zh.feature. This file is yours: it is written once and never touched again.

package features

import "testing"

// WithdrawZhWorld is what the steps of one scenario share; each scenario begins with a new one.
type WithdrawZhWorld struct {
	UnwrittenWithdrawZhSteps
	取款机 Atm
	付出  int64
	拒绝  *Refusal
}

// NewWithdrawZhWorld begins a scenario.
func NewWithdrawZhWorld() *WithdrawZhWorld {
	return &WithdrawZhWorld{}
}

func (world *WithdrawZhWorld) 卡片有效(t *testing.T) {
	world.取款机.CardStolen = false
}

func (world *WithdrawZhWorld) 账户余额为元(t *testing.T, number int64) {
	world.取款机.Balance = number
}

func (world *WithdrawZhWorld) 取款机里有元(t *testing.T, number int64) {
	world.取款机.Cash = number
}

func (world *WithdrawZhWorld) 卡片已挂失(t *testing.T) {
	world.取款机.CardStolen = true
}

func (world *WithdrawZhWorld) 客户取款元(t *testing.T, number int64) {
	world.付出, world.拒绝 = world.取款机.Withdraw(number)
}

func (world *WithdrawZhWorld) 账户余额应为元(t *testing.T, number int64) {
	t.Helper()
	expectNumber(t, "余额", number, world.取款机.Balance)
}

func (world *WithdrawZhWorld) 应付出元(t *testing.T, number int64) {
	t.Helper()
	expectNumber(t, "付出", number, world.付出)
}

func (world *WithdrawZhWorld) 应退还卡片(t *testing.T) {
	t.Helper()
	expectCard(t, false, world.拒绝)
}

func (world *WithdrawZhWorld) 应扣留卡片(t *testing.T) {
	t.Helper()
	expectCard(t, true, world.拒绝)
}

func (world *WithdrawZhWorld) 取款机应显示(t *testing.T, 原因 string) {
	t.Helper()
	if world.拒绝 == nil || world.拒绝.Chinese != 原因 {
		t.Fatalf("应显示 %q, 却是 %+v", 原因, world.拒绝)
	}
}
