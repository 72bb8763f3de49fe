//! PUSH and POP in a row, as functions begin and end with: one check for all of them.
//!
//! ```text
//!   push rbp; push r12; push rbx    ─►   24 bytes below RSP in the site's region?
//!                                        three stores, RSP -= 24
//!   pop rbx; pop r12; pop rbp; ret  ─►   32 bytes from RSP on in the site's region?
//!                                        four loads, RSP += 32, and off to where the last one leads
//! ```
//!
//! Where a page ends in between, a superblock without rows goes on (`translate::groups`).

use super::*;

/// A register or number is pushed, which RSP is not: its value depends on those before.
fn is_push(step: &Step) -> bool {
    step.rule == Rule::Push && !names_stack(step)
}

fn is_pop(step: &Step) -> bool {
    step.rule == Rule::Pop && !names_stack(step)
}

fn names_stack(step: &Step) -> bool {
    step.instruction.op0_kind() == OpKind::Register
        && step.instruction.op0_register() == Register::RSP
}

/// The most that one check covers.
const LONGEST_ROW: usize = super::super::groups::MOST as usize / 8;

/// How many of the steps, from the first on, are made together.
pub(super) fn in_a_row(steps: &[Step]) -> usize {
    let pushes = steps.iter().take(LONGEST_ROW).take_while(|step| is_push(step)).count();
    let pops = steps.iter().take(LONGEST_ROW - 1).take_while(|step| is_pop(step)).count();
    match steps.get(pops) {
        Some(next) if pops > 0 && next.rule == Rule::Return => pops + 1,
        _ => pushes.max(pops),
    }
}

impl Emitter<'_> {
    /// So many steps, from the present one on.
    pub(super) fn row(&mut self, count: usize) -> Done {
        let steps = &self.request.steps[self.at..self.at + count];
        let bytes = 8 * count as i32;
        let pushes = is_push(&steps[0]);
        let lowest = if pushes { -bytes } else { 0 };
        let operand = Operand { size: bytes as u32, ..Operand::stack(i64::from(lowest), pushes) };
        self.access(&operand, Tail::Row(steps))?;
        self.at += count - 1;
        let Some(last) = steps.last().filter(|last| last.rule == Rule::Return) else {
            self.move_stack(if pushes { -bytes } else { bytes });
            self.settle_flags(&steps[count - 1]);
            return Ok(());
        };
        let released = super::ways::released(last);
        self.move_stack(bytes - 8 + released);
        self.go_back(released);
        Ok(())
    }

    /// All of them, the lowest at `address`.
    pub(super) fn store_or_load_row(&mut self, steps: &[Step], address: Address) {
        let bytes = 8 * steps.len() as i32;
        for (step, at) in steps.iter().zip((0..).step_by(8)) {
            let distance = if is_push(step) { bytes - 8 - at } else { at };
            let displacement = address.displacement + distance;
            self.one_of_row(step, Address { displacement, ..address });
        }
    }

    fn one_of_row(&mut self, step: &Step, address: Address) {
        match step.rule {
            Rule::Push => self.store_pushed(step, address),
            Rule::Return => self.hot.load_from(host::SCRATCH, address),
            _ => {
                let guest = step.instruction.op0_register().full_register().number() as u8;
                self.hot.load_from(self.homes.host(guest), address);
            }
        }
    }
}
