//! The code of a superblock.

use super::Record;
use super::asm::{Address, Asm, Hole, condition, host};
use super::flags::{CodePage, liveness};
use super::groups::Groups;
use super::homes::Homes;
use super::record::{Access, Kind};
use super::shared;
use super::step::{Operand, Rule, Segment, Step};
use crate::area::{
    BELL, Registers, SITES_AT, SLOTS_AT, SUPERVISOR, SUPERVISOR_AC, Site, USER, jumps_of,
};
use iced_x86::{ConditionCode, Encoder, IcedError, Instruction, OpKind, Register};
use std::mem::{offset_of, size_of};

mod access;
mod careful;
mod returns;
mod stack;
mod string;
mod system;
mod ways;

use access::Tail;
pub(super) use returns::void_landing;

/// What there is to translate.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The instructions, one after the other in one page.
    pub steps: &'a [Step],
    /// The page.
    pub page: CodePage<'a>,
    /// Which view the code runs in (below [`crate::area::VIEWS`]).
    pub view: u8,
    /// Each access is checked by itself.
    pub apart: bool,
}

/// Where what is emitted will be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Addresses {
    /// Where code memory begins.
    pub code: u64,
    pub hot: u64,
    pub cold: u64,
}

/// Numbers that code is given while it is emitted.
#[derive(Debug)]
pub(super) struct Books<'a> {
    pub records: &'a mut Vec<Record>,
    pub sites: &'a mut u32,
    pub writes: &'a mut Vec<bool>,
    pub slots: &'a mut super::slots::Slots,
}

const SAVED_RAX: usize = offset_of!(Registers, saved_rax);
const SAVED_RCX: usize = offset_of!(Registers, saved_rcx);
const FLAGS: usize = offset_of!(Registers, flags);
const EXIT: usize = offset_of!(Registers, exit);
const LEAVE: usize = offset_of!(Registers, leave);
const LEAVE_SAVED: usize = offset_of!(Registers, leave_saved);
const LOAD_VECTORS: usize = offset_of!(Registers, load_vectors);
const VECTORS_LIVE: usize = offset_of!(Registers, vectors_live);
const LOAD_X87: usize = offset_of!(Registers, load_x87);
const X87_LIVE: usize = offset_of!(Registers, x87_live);

/// A way out that is written to the cold side when the hot side is done.
#[derive(Clone, Copy, Debug)]
struct Stub {
    hole: Hole,
    record: u32,
    /// The flags are in the area.
    saved: bool,
    /// RCX waits in the area.
    rcx: bool,
    /// Registers are still at the superblock's homes.
    homes: bool,
    /// Come back here when the access can be made.
    resume: Option<u64>,
}

pub(super) struct Emitter<'a> {
    hot: Asm,
    cold: Asm,
    /// Where code memory begins.
    code: u64,
    books: Books<'a>,
    request: Request<'a>,
    homes: Homes,
    live: Vec<u32>,
    flags: Flags,
    vectors: bool,
    x87: bool,
    stubs: Vec<Stub>,
    groups: Groups,
    /// The place whose value is in the scratch register.
    at_hand: Option<usize>,
    encoder: Encoder,
    body: u64,
    /// Where the flags are there.
    body_flags: Flags,
    at: usize,
}

/// Where the flags are that are live.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Flags {
    /// In the area, and not in RFLAGS.
    parked: bool,
    /// In the area as well as in RFLAGS.
    copied: bool,
}

impl Flags {
    const PARKED: Flags = Flags { parked: true, copied: false };
    const COPIED: Flags = Flags { parked: false, copied: true };
    /// In RFLAGS alone, or nowhere when none is live.
    const RAW: Flags = Flags { parked: false, copied: false };

    /// Whether they are in the area.
    fn are_in_area(self) -> bool {
        self.parked || self.copied
    }
}

/// Hot and cold code, for the places that were promised, and where in the hot code it is entered with the flags in
/// the area and with the flags in RFLAGS.
pub(super) struct Emitted {
    pub hot: Vec<u8>,
    pub cold: Vec<u8>,
    pub parked: usize,
    pub raw: usize,
}

type Done = Result<(), IcedError>;

impl<'a> Emitter<'a> {
    /// To emit at these addresses.
    pub fn new(request: Request<'a>, books: Books<'a>, places: Addresses) -> Emitter<'a> {
        let next = request.steps.last().map_or(0, Step::next);
        Emitter {
            hot: Asm::new(places.hot),
            cold: Asm::new(places.cold),
            code: places.code,
            books,
            request,
            homes: Homes::of(request.steps),
            live: liveness(request.steps, &request.page, next),
            flags: Flags::RAW,
            vectors: request.steps.iter().any(|step| step.rule == Rule::Vector),
            x87: request.steps.iter().any(|step| step.rule == Rule::X87),
            stubs: Vec::new(),
            groups: Groups::of(request.steps, request.apart),
            at_hand: None,
            encoder: Encoder::new(64),
            body: 0,
            body_flags: Flags::RAW,
            at: 0,
        }
    }

    /// Emits everything.
    pub fn run(mut self) -> Result<Emitted, IcedError> {
        let (parked, raw) = self.enter();
        self.homes.move_in(&mut self.hot);
        if self.vectors {
            self.want(VECTORS_LIVE, LOAD_VECTORS);
        }
        if self.x87 {
            self.want(X87_LIVE, LOAD_X87);
        }
        (self.body, self.body_flags) = (self.hot.here(), self.flags);
        let steps = self.request.steps;
        while let Some(step) = steps.get(self.at) {
            let first = self.at;
            let row = if self.request.apart { 1 } else { stack::in_a_row(&steps[self.at..]) };
            match row {
                0 | 1 => self.step(step)?,
                count => self.row(count)?,
            }
            for step in &steps[first..=self.at] {
                self.groups.pass(step);
            }
            self.at += 1;
        }
        if let Some(last) = steps.last().filter(|last| !last.ends()) {
            self.at = steps.len();
            self.go_on(last.next());
        }
        self.write_stubs();
        Ok(Emitted { hot: self.hot.bytes, cold: self.cold.bytes, parked, raw })
    }

    /// The two ways in: with the flags in the area, and with the flags in RFLAGS. The body goes on as suits its first
    /// steps; whoever comes the other way has the flags moved.
    fn enter(&mut self) -> (usize, usize) {
        if self.live[0] == 0 {
            return (0, 0);
        }
        if self.begins_parked() {
            self.save_flags();
            return (self.hot.bytes.len(), 0);
        }
        self.flags = Flags::PARKED;
        self.restore_flags();
        self.flags = Flags::RAW;
        (0, self.hot.bytes.len())
    }

    /// Whether the flags from before are not needed in RFLAGS before they have to be in the area.
    fn begins_parked(&self) -> bool {
        for (at, step) in self.request.steps.iter().enumerate() {
            if step.rule == Rule::Nothing || step.rule == Rule::Address {
                continue;
            }
            let plain = matches!(step.rule, Rule::Copy | Rule::Vector | Rule::X87);
            if !plain || step.operand.is_some() {
                return step.rule != Rule::Branch;
            }
            if step.reads != 0 || step.modifies != 0 {
                return step.reads == 0 && self.live[at + 1] & !step.kills == 0;
            }
        }
        true
    }

    /// Vector or x87 registers are to be in the host's from here on. Leaves the flags alone where they are live.
    fn want(&mut self, live: usize, load: usize) {
        let hot = &mut self.hot;
        if self.live[0] == 0 || self.flags.parked {
            hot.is_zero(live);
            let there = hot.jump_if(condition::NOT_EQUAL);
            hot.call_through(load);
            return hot.fill_here(there);
        }
        hot.store(SAVED_RCX, host::RCX);
        hot.load_byte(host::RCX, live);
        hot.lea(host::RCX, Address::at(host::RCX, -1));
        let there = hot.jump_if_rcx_is_zero();
        hot.call_through(load);
        hot.land(there);
        hot.load(host::RCX, SAVED_RCX);
    }

    fn step(&mut self, step: &Step) -> Done {
        // What is made otherwise may use the scratch register.
        let plain = matches!(
            step.rule,
            Rule::Nothing | Rule::Copy | Rule::Vector | Rule::Address | Rule::Push | Rule::Pop
        );
        self.at_hand = self.at_hand.filter(|_| plain);
        self.by_rule(step)?;
        self.at_hand = self.at_hand.filter(|_| plain);
        Ok(())
    }

    fn by_rule(&mut self, step: &Step) -> Done {
        match step.rule {
            Rule::Nothing => Ok(()),
            Rule::Copy | Rule::Vector | Rule::X87 | Rule::ExchangePair => self.copy(step),
            Rule::PushFlags => self.push_flags(),
            Rule::ClearInterrupt => {
                self.hot.store_number(offset_of!(Registers, interrupt_flag), 0);
                Ok(())
            }
            Rule::SetInterrupt => self.set_interrupt(step),
            Rule::SwapGs => self.swap_gs(),
            Rule::PushMemory => self.push_memory(step),
            Rule::MoveString | Rule::StoreString => {
                self.string(step);
                Ok(())
            }
            Rule::Divide => self.divide(step),
            Rule::Address => self.address(step),
            Rule::Push => self.push(step),
            Rule::Pop => self.pop(step),
            Rule::Leave => self.leave(),
            Rule::Call => self.call(step),
            Rule::Return => self.ret(step),
            Rule::Jump => self.jump(step),
            Rule::Branch => self.branch(step),
            Rule::Interpret => {
                self.interpret(step.instruction.ip());
                Ok(())
            }
            Rule::BitString => self.bit_string(step),
            _ => {
                self.system(step);
                Ok(())
            }
        }
    }

    /// Those that cannot fail to encode.
    fn system(&mut self, step: &Step) {
        match step.rule {
            Rule::ReadSegment => self.read_segment(step),
            Rule::SystemCall => self.system_call(step),
            Rule::SystemReturn => self.system_return(),
            Rule::TimeStamp => self.time_stamp(step),
            Rule::SetAccess => self.set_access(step, true),
            Rule::ClearAccess => self.set_access(step, false),
            Rule::ClearDirection => self.clear_direction(step),
            Rule::ReadKeys => self.read_keys(step),
            Rule::ReadControl => self.read_control(step),
            Rule::ReadBase(segment) => self.read_base(step, segment),
            Rule::WriteBase(segment) => self.write_base(step, segment),
            _ => {}
        }
    }

    /// Flags that are read behind the present step.
    fn live_behind(&self) -> u32 {
        self.live[self.at + 1]
    }

    fn record(&mut self, rip: u64, kind: Kind) -> u32 {
        self.books.records.push(Record { rip, kind });
        self.books.records.len() as u32 - 1
    }

    fn here(&self) -> u64 {
        self.request.steps.get(self.at).map_or(0, |step| step.instruction.ip())
    }

    /// Puts the flags into the area, unless they are there. The scratch register is lost.
    fn save_flags(&mut self) {
        self.at_hand = None;
        if !self.flags.are_in_area() {
            self.hot.copy(host::SCRATCH, host::RAX);
            self.hot.flags_to_rax();
            self.hot.store_32(FLAGS, host::RAX);
            self.hot.copy(host::RAX, host::SCRATCH);
        }
        self.flags = Flags::PARKED;
    }

    /// The same when some are live at the present step.
    fn save_live_flags(&mut self) {
        if self.live[self.at] != 0 {
            self.save_flags();
        }
    }

    /// Gets them back, if they are there alone. The scratch register keeps its value.
    fn restore_flags(&mut self) {
        if self.flags.parked {
            self.hot.store(SAVED_RAX, host::RAX);
            self.hot.load_32(host::RAX, FLAGS);
            self.hot.flags_from_rax();
            self.hot.load(host::RAX, SAVED_RAX);
            self.flags = Flags::COPIED;
        }
    }

    /// Before the instruction itself: flags that it reads, or keeps some of, must be the host's.
    fn prepare_flags(&mut self, step: &Step) {
        let kept = step.modifies != 0 && self.live_behind() & !step.kills != 0;
        if step.reads != 0 || kept {
            self.restore_flags();
        }
    }

    /// Behind it: flags that nobody wants need no place.
    fn settle_flags(&mut self, step: &Step) {
        if step.modifies != 0 || self.live_behind() == 0 {
            self.flags = Flags::RAW;
        }
    }

    fn encode(&mut self, mut instruction: Instruction) -> Done {
        // Redundant ones: those that matter belong to the opcode.
        instruction.set_has_rep_prefix(false);
        instruction.set_has_repne_prefix(false);
        self.encoder.encode(&instruction, 0)?;
        let bytes = self.encoder.take_buffer();
        self.hot.raw(&bytes);
        self.encoder.set_buffer({
            let mut bytes = bytes;
            bytes.clear();
            bytes
        });
        Ok(())
    }

    /// An instruction that runs as itself.
    fn copy(&mut self, step: &Step) -> Done {
        match &step.operand {
            Some(operand) => self.access(operand, Tail::Copy(step))?,
            None => {
                self.prepare_flags(step);
                if self.homes.touch(step) || is_prefixed(&step.instruction) {
                    self.encode(self.homes.rename(&step.instruction))?;
                } else {
                    self.raw(step);
                }
            }
        }
        if step.rule == Rule::X87 {
            self.point_to(step);
        }
        self.settle_flags(step);
        Ok(())
    }

    /// The pointers to the last x87 instruction and its operand (Intel SDM vol. 1 §8.1.8). Changes no flags.
    fn point_to(&mut self, step: &Step) {
        use iced_x86::Mnemonic as M;
        if matches!(step.instruction.mnemonic(), M::Fnstcw | M::Fnstsw) {
            return;
        }
        self.hot.number(host::SCRATCH, step.instruction.ip());
        self.hot.store(offset_of!(Registers, x87_instruction), host::SCRATCH);
        if let Some(operand) = &step.operand {
            self.linear(operand);
            self.hot.store(offset_of!(Registers, x87_operand), host::SCRATCH);
        }
    }

    fn raw(&mut self, step: &Step) {
        let start = step.instruction.ip().wrapping_sub(self.request.page.start) as usize;
        let bytes = self.request.page.bytes.get(start..start + step.instruction.len());
        self.hot.raw(bytes.unwrap_or(&[0x0f, 0x0b]));
    }

    fn address(&mut self, step: &Step) -> Done {
        let instruction = &step.instruction;
        let constant = instruction.is_ip_rel_memory_operand()
            || instruction.memory_base() == Register::None
                && instruction.memory_index() == Register::None;
        if !constant {
            let mut renamed = self.homes.rename(instruction);
            renamed.set_segment_prefix(Register::None);
            return self.encode(renamed);
        }
        let target = instruction.op0_register();
        let value = instruction.memory_displacement64();
        let register = self.homes.host(target.full_register().number() as u8);
        match target.size() {
            8 => self.hot.number(register, value),
            _ => self.hot.number(register, value & 0xffff_ffff),
        }
        Ok(())
    }

    fn push(&mut self, step: &Step) -> Done {
        self.access(&Operand::stack(-8, true), Tail::Push(step))?;
        self.move_stack(-8);
        Ok(())
    }

    fn pop(&mut self, step: &Step) -> Done {
        let guest = step.instruction.op0_register().full_register().number() as u8;
        self.access(&Operand::stack(0, false), Tail::Load(self.homes.host(guest)))?;
        if guest != super::step::RSP {
            self.move_stack(8);
        }
        Ok(())
    }

    fn leave(&mut self) -> Done {
        const RBP: u8 = 5;
        let rbp = self.homes.host(RBP);
        self.access(&Operand::at(RBP, 0, false), Tail::Leave(rbp))
    }

    fn move_stack(&mut self, by: i32) {
        self.hot.lea(host::STACK, Address::at(host::STACK, by));
    }
}

fn is_prefixed(instruction: &Instruction) -> bool {
    instruction.has_rep_prefix() || instruction.has_repne_prefix()
}

/// The number of a condition in opcodes.
fn condition_number(instruction: &Instruction) -> u8 {
    match instruction.condition_code() {
        ConditionCode::None => 0,
        code => code as u8 - 1,
    }
}
