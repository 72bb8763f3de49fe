//! In which host register each guest register is while a superblock runs.
//!
//! Between superblocks guest R10 and R11 are in the area, all others in host registers of their own
//! ([`crate::gate`]). A superblock that uses R10 or R11 borrows the register of a guest register that it
//! does not use, whose value waits in a spill slot of the area.

use super::asm::{Asm, host};
use super::step::{RSP, Step};
use crate::area::Registers;
use iced_x86::{Instruction, OpKind, Register};
use std::mem::offset_of;

const HOMELESS: [u8; 2] = [10, 11];

/// Host registers that can be borrowed, the least used first.
const LENDERS: [u8; 13] = [9, 8, 14, 15, 13, 12, 3, 5, 2, 6, 7, 1, 0];

/// A register that is borrowed for a homeless guest register.
#[derive(Clone, Copy, Debug)]
struct Loan {
    guest: u8,
    host: u8,
    changed: bool,
    spill: usize,
}

/// The homes of one superblock.
#[derive(Clone, Debug, Default)]
pub(super) struct Homes {
    loans: Vec<Loan>,
}

/// The offset of a guest register in the area.
pub(super) fn place(guest: u8) -> usize {
    offset_of!(Registers, gpr) + 8 * usize::from(guest)
}

/// How many of the steps, from the first on, can be given homes together.
pub(super) fn fitting(steps: &[Step]) -> usize {
    let mut used = 0_u16;
    for (count, step) in steps.iter().enumerate() {
        used |= step.registers;
        let wanted = HOMELESS.iter().filter(|guest| used >> **guest & 1 == 1).count();
        let free = LENDERS.iter().filter(|host| used >> **host & 1 == 0).count();
        if wanted > free {
            return count;
        }
    }
    steps.len()
}

impl Homes {
    pub fn of(steps: &[Step]) -> Homes {
        let used = steps.iter().fold(0, |used, step| used | step.registers);
        let changed = steps.iter().fold(0, |changed, step| changed | step.changes);
        let mut lenders = LENDERS.into_iter().filter(|host| used >> host & 1 == 0);
        let mut loans = Vec::new();
        for guest in HOMELESS.into_iter().filter(|guest| used >> guest & 1 == 1) {
            if let Some(host) = lenders.next() {
                let spill = offset_of!(Registers, spill) + 8 * loans.len();
                loans.push(Loan { guest, host, changed: changed >> guest & 1 == 1, spill });
            }
        }
        Homes { loans }
    }

    /// All registers are in their places between superblocks anyway.
    pub fn are_usual(&self) -> bool {
        self.loans.is_empty()
    }

    /// The host register of a guest register.
    pub fn host(&self, guest: u8) -> u8 {
        match self.loans.iter().find(|loan| loan.guest == guest) {
            Some(loan) => loan.host,
            None if guest == RSP => host::STACK,
            None => guest,
        }
    }

    /// From between superblocks into this one. Changes no flags.
    pub fn move_in(&self, asm: &mut Asm) {
        for loan in &self.loans {
            asm.store(loan.spill, loan.host);
            asm.load(loan.host, place(loan.guest));
        }
    }

    /// Out again. Changes no flags, and not the scratch register.
    pub fn move_out(&self, asm: &mut Asm) {
        for loan in &self.loans {
            if loan.changed {
                asm.store(place(loan.guest), loan.host);
            }
            asm.load(loan.host, loan.spill);
        }
    }

    /// The register of the same width at home.
    pub fn register(&self, register: Register) -> Register {
        if !register.is_gpr() || is_high_byte(register) {
            return register;
        }
        let host = u32::from(self.host(register.full_register().number() as u8));
        match register.size() {
            8 => Register::RAX + host,
            4 => Register::EAX + host,
            2 => Register::AX + host,
            _ if host < 4 => Register::AL + host,
            _ => Register::SPL + (host - 4),
        }
    }

    /// The instruction with all registers at home.
    pub fn rename(&self, instruction: &Instruction) -> Instruction {
        let mut renamed = *instruction;
        for operand in 0..instruction.op_count() {
            if instruction.op_kind(operand) == OpKind::Register {
                renamed.set_op_register(operand, self.register(instruction.op_register(operand)));
            }
        }
        renamed.set_memory_base(self.register(instruction.memory_base()));
        renamed.set_memory_index(self.register(instruction.memory_index()));
        renamed
    }

    /// Whether renaming changes the instruction.
    pub fn touch(&self, step: &Step) -> bool {
        let moved = self.loans.iter().fold(1 << RSP, |moved, loan| moved | 1 << loan.guest);
        step.registers & moved != 0
    }
}

fn is_high_byte(register: Register) -> bool {
    matches!(register, Register::AH | Register::CH | Register::DH | Register::BH)
}
