// The steps of features/withdraw.feature. This file is yours: it is written once and never touched again.

package features

import "testing"

// WithdrawWorld is what the steps of one scenario share; each scenario begins with a new one.
type WithdrawWorld struct {
	UnwrittenWithdrawSteps
	atm       Atm
	dispensed int64
	refusal   *Refusal
}

// NewWithdrawWorld begins a scenario.
func NewWithdrawWorld() *WithdrawWorld {
	return &WithdrawWorld{}
}

func (world *WithdrawWorld) TheCardIsValid(t *testing.T) {
	world.atm.CardStolen = false
}

func (world *WithdrawWorld) TheAccountBalanceIs(t *testing.T, number int64) {
	world.atm.Balance = number
}

func (world *WithdrawWorld) TheDispenserContains(t *testing.T, number int64) {
	world.atm.Cash = number
}

func (world *WithdrawWorld) TheCardIsReportedStolen(t *testing.T) {
	world.atm.CardStolen = true
}

func (world *WithdrawWorld) TheCustomerRequests(t *testing.T, number int64) {
	world.dispensed, world.refusal = world.atm.Withdraw(number)
}

func (world *WithdrawWorld) EnsureTheAccountBalanceIs(t *testing.T, number int64) {
	t.Helper()
	expectNumber(t, "balance", number, world.atm.Balance)
}

func (world *WithdrawWorld) EnsureIsDispensed(t *testing.T, number int64) {
	t.Helper()
	expectNumber(t, "dispensed", number, world.dispensed)
}

func (world *WithdrawWorld) EnsureTheCardIsReturned(t *testing.T) {
	t.Helper()
	expectCard(t, false, world.refusal)
}

func (world *WithdrawWorld) EnsureTheCardIsKept(t *testing.T) {
	t.Helper()
	expectCard(t, true, world.refusal)
}

func (world *WithdrawWorld) EnsureTheMachineSays(t *testing.T, reason string) {
	t.Helper()
	if world.refusal == nil || world.refusal.English != reason {
		t.Fatalf("expected %q, saw %+v", reason, world.refusal)
	}
}

func expectNumber(t *testing.T, what string, expected int64, seen int64) {
	t.Helper()
	if expected != seen {
		t.Fatalf("%s: expected %d, saw %d", what, expected, seen)
	}
}

func expectCard(t *testing.T, kept bool, refusal *Refusal) {
	t.Helper()
	if seen := refusal != nil && refusal.CardKept; seen != kept {
		t.Fatalf("card kept: expected %v, saw %v", kept, seen)
	}
}
