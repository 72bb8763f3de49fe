//! Accesses of a superblock that one check is enough for.
//!
//! ```text
//!   push rbp                    ┐
//!   sub  rsp, 40                │ 48 bytes below RSP: checked once, before the push. The distance to the
//!   mov  [rsp + 8], rdi         │ host's memory waits in a place of the area, and the other accesses
//!   mov  [rsp + 16], rsi        ┘ add it to their addresses.
//! ```
//!
//! Where an address comes from one value, plus numbers, its distance from others that do is known: what is added to and
//! taken from a register is followed here, and copies are. The first access looks ahead for such neighbours, as far as
//! one check reaches ([`MOST`]), and has all of them checked. An access that reads is also served by what writes have
//! been checked for.
//!
//! What was checked stays good until the superblock ends. Translations are taken away at the gate only, and code that
//! has left for the gate and comes back in the middle of a superblock has not been told of any.
//!
//! A check that fails for the neighbours' sake (they lie on two pages) goes to a superblock that begins at the same
//! instruction and in which each access is checked by itself ([`super::Request::apart`]).
//!
//! Rejected: following values through memory or from one superblock to the next (whoever enters in between does not
//! know them); all of a superblock's checks at its begin (most leave before its end).

use super::step::{Operand, RSP, Rule, Step};
use crate::area::{PLACES, Site};
use iced_x86::{Mnemonic, OpKind, Register};

/// Bytes that are checked at once, at most.
pub(super) const MOST: i64 = Site::SIZES[2] as i64;

/// What the operands of most vector instructions must be a multiple of.
const ALIGNMENT: u32 = 16;

/// What a register holds: something unknown that has a number, and a number added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Value {
    root: u16,
    offset: i64,
}

/// What the registers hold at some instruction.
#[derive(Clone, Debug)]
struct Values {
    of: [Value; 16],
    next: u16,
}

/// An access that could be served by the check of another.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    at: usize,
    from: Value,
    size: i64,
    write: bool,
    aligned: bool,
}

/// A check whose outcome waits in a place of the area.
#[derive(Clone, Copy, Debug)]
struct Known {
    from: Value,
    size: i64,
    write: bool,
    /// It has begun at a multiple of [`ALIGNMENT`].
    aligned: bool,
    place: usize,
}

/// The accesses of a superblock, and what has been checked so far.
#[derive(Debug)]
pub(super) struct Groups {
    values: Values,
    candidates: Vec<Candidate>,
    known: Vec<Known>,
    places: usize,
}

/// What a check is to cover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    /// Bytes before the access.
    pub below: u32,
    /// Bytes in all.
    pub size: u32,
    /// The place for its outcome, if others want it.
    pub place: Option<usize>,
}

impl Default for Values {
    fn default() -> Values {
        let of = std::array::from_fn(|register| Value { root: register as u16, offset: 0 });
        Values { of, next: 16 }
    }
}

impl Value {
    fn plus(self, number: i64) -> Value {
        Value { offset: self.offset.wrapping_add(number), ..self }
    }
}

fn number(register: Register) -> Option<usize> {
    register.is_gpr64().then(|| register.number() & 15)
}

impl Values {
    fn forget(&mut self, register: usize) {
        self.of[register] = Value { root: self.next, offset: 0 };
        self.next += 1;
    }

    fn forget_all(&mut self, registers: u16) {
        for register in (0..16).filter(|register| registers >> register & 1 == 1) {
            self.forget(register);
        }
    }

    /// What they hold behind a step.
    fn pass(&mut self, step: &Step) {
        const STACK: usize = RSP as usize;
        let stack = self.of[STACK];
        match step.rule {
            Rule::Push | Rule::PushMemory | Rule::PushFlags | Rule::Call => {
                self.of[STACK] = stack.plus(-8);
            }
            Rule::Pop => {
                self.of[STACK] = stack.plus(8);
                self.forget_all(step.changes & !(1 << RSP));
                if step.instruction.op0_register() == Register::RSP {
                    self.forget(STACK);
                }
            }
            _ => match known_result(step, &self.of) {
                Some((register, value)) => self.of[register] = value,
                None => self.forget_all(step.changes),
            },
        }
    }
}

/// The one register that a step changes to something known, and what that is.
fn known_result(step: &Step, of: &[Value; 16]) -> Option<(usize, Value)> {
    let instruction = &step.instruction;
    let target = number(instruction.op0_register())?;
    if step.operand.is_some() || step.changes != 1 << target {
        return None;
    }
    let second = instruction.op1_kind();
    let value = match (step.rule, instruction.mnemonic()) {
        (Rule::Address, _) => {
            let base = number(instruction.memory_base())?;
            let alone = instruction.memory_index() == Register::None;
            alone.then(|| of[base].plus(instruction.memory_displacement64() as i64))?
        }
        (Rule::Copy, Mnemonic::Mov) if second == OpKind::Register => {
            of[number(instruction.op1_register())?]
        }
        (Rule::Copy, Mnemonic::Add) => of[target].plus(signed(step)?),
        (Rule::Copy, Mnemonic::Sub) => of[target].plus(signed(step)?.wrapping_neg()),
        _ => return None,
    };
    Some((target, value))
}

/// The number that is the second operand.
fn signed(step: &Step) -> Option<i64> {
    let number =
        matches!(step.instruction.op1_kind(), OpKind::Immediate8to64 | OpKind::Immediate32to64);
    number.then(|| step.instruction.immediate(1) as i64)
}

/// Whether an access can be one of several.
fn is_groupable(operand: &Operand) -> bool {
    operand.index.is_none()
        && operand.bit.is_none()
        && operand.segment.is_none()
        && operand.base.is_some()
        && (operand.alignment == 1 || is_aligned(operand))
        && i64::from(operand.size) <= MOST
        && i32::try_from(operand.displacement).is_ok()
}

fn is_aligned(operand: &Operand) -> bool {
    operand.alignment == ALIGNMENT
}

fn is_multiple(distance: i64) -> bool {
    distance.rem_euclid(i64::from(ALIGNMENT)) == 0
}

/// What a step accesses.
fn operands(step: &Step) -> [Option<Operand>; 2] {
    const RBP: u8 = 5;
    match step.rule {
        Rule::Push | Rule::PushFlags => [Some(Operand::stack(-8, true)), None],
        Rule::Pop | Rule::Return => [Some(Operand::stack(0, false)), None],
        Rule::Leave => [Some(Operand::at(RBP, 0, false)), None],
        Rule::Call | Rule::PushMemory => [step.operand, Some(Operand::stack(-8, true))],
        Rule::MoveString | Rule::StoreString | Rule::BitString | Rule::Interpret => [None, None],
        _ => [step.operand, None],
    }
}

impl Groups {
    /// Those of a superblock; `apart`: each access by itself.
    pub fn of(steps: &[Step], apart: bool) -> Groups {
        let (mut values, mut candidates) = (Values::default(), Vec::new());
        for (at, step) in steps.iter().enumerate().filter(|_| !apart) {
            for operand in operands(step).iter().flatten().filter(|it| is_groupable(it)) {
                if let Some(from) = place_of(operand, &values) {
                    let (size, write) = (i64::from(operand.size), operand.write);
                    let aligned = is_aligned(operand);
                    candidates.push(Candidate { at, from, size, write, aligned });
                }
            }
            values.pass(step);
        }
        Groups { values: Values::default(), candidates, known: Vec::new(), places: 0 }
    }

    /// Goes on behind a step.
    pub fn pass(&mut self, step: &Step) {
        self.values.pass(step);
    }

    /// The place with the outcome of a check that covers an access.
    pub fn find(&self, operand: &Operand) -> Option<usize> {
        let from = place_of(operand, &self.values).filter(|_| is_groupable(operand))?;
        let covers = |known: &&Known| {
            let distance = from.offset.wrapping_sub(known.from.offset);
            known.from.root == from.root
                && (known.write || !operand.write)
                && (!is_aligned(operand) || known.aligned && is_multiple(distance))
                && (0..=known.size - i64::from(operand.size)).contains(&distance)
        };
        self.known.iter().find(covers).map(|known| known.place)
    }

    /// What the check of an access by so many steps, from one on, is to cover.
    pub fn span(&mut self, (at, steps): (usize, usize), operand: &Operand) -> Span {
        let size = i64::from(operand.size);
        let alone = Span { below: 0, size: operand.size, place: None };
        let Some(from) = place_of(operand, &self.values).filter(|_| is_groupable(operand)) else {
            return alone;
        };
        let (mut low, mut high, mut others) = (0, size, 0);
        let begin = self.candidates.partition_point(|it| it.at < at + steps);
        for other in &self.candidates[begin..] {
            let distance = other.from.offset.wrapping_sub(from.offset);
            let near = other.from.root == from.root && (-MOST..=MOST).contains(&distance);
            let aligned = is_aligned(operand);
            let fits = if aligned { is_multiple(distance) } else { !other.aligned };
            if !near || !fits || other.write && !operand.write {
                continue;
            }
            let (lower, higher) = (low.min(distance), high.max(distance + other.size));
            // What may be read need not be writable.
            let same = operand.write == other.write || (lower, higher) == (low, high);
            if same && higher - lower <= MOST {
                (low, high) = (lower, higher);
                others += 1;
            }
        }
        let far = i32::try_from(operand.displacement + low).is_err();
        if others == 0 || far {
            return alone;
        }
        let place = self.places % PLACES;
        self.places += 1;
        self.known.retain(|known| known.place != place);
        let write = operand.write;
        let aligned = is_aligned(operand);
        self.known.push(Known { from: from.plus(low), size: high - low, write, aligned, place });
        Span { below: -low as u32, size: (high - low) as u32, place: Some(place) }
    }
}

/// The first byte of an operand.
fn place_of(operand: &Operand, values: &Values) -> Option<Value> {
    let base = usize::from(operand.base? & 15);
    Some(values.of[base].plus(operand.displacement))
}

#[cfg(test)]
mod tests;
