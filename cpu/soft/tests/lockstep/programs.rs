//! Random programs: a loop around a few instructions that the translator takes.

use iced_x86::{
    Code, Decoder, DecoderOptions, Encoder, Formatter, Instruction, InstructionInfoFactory,
    IntelFormatter, OpAccess, Register, code_asm,
};
use kezhan_jit::oracle::forms::{Plan, form};
use kezhan_jit::translate::Rule;
use kezhan_x86::table::row;
use kezhan_x86::table::rule::{Conditions, rule};

/// Numbers that look random (xorshift64*).
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    pub fn below(&mut self, limit: usize) -> usize {
        self.next() as usize % limit
    }

    /// Often one of the numbers at which things go wrong.
    pub fn integer(&mut self) -> u64 {
        const EDGES: [u64; 8] =
            [0, 1, u64::MAX, 1 << 63, i64::MAX as u64, 0xffff_ffff, 0x8000_0000, 0x7f];
        match self.below(3) {
            0 => EDGES[self.below(EDGES.len())],
            1 => self.next() << 20 ^ self.next(),
            _ => self.next() & 0xffff,
        }
    }
}

/// A program.
#[derive(Debug)]
pub struct Program {
    pub bytes: Vec<u8>,
    /// Flags in RFLAGS that are undefined at its end.
    pub undefined: u64,
}

impl Program {
    /// As assembly text.
    pub fn text(&self, address: u64) -> String {
        let mut formatter = IntelFormatter::new();
        let mut text = String::new();
        for instruction in Decoder::with_ip(64, &self.bytes, address, DecoderOptions::NONE) {
            text.push_str(&format!("{:x}  ", instruction.ip()));
            formatter.format(&instruction, &mut text);
            text.push('\n');
        }
        text
    }
}

/// Writes programs.
pub struct Writer {
    random: Random,
    codes: Vec<Code>,
    factory: InstructionInfoFactory,
}

/// Registers that operands may be based on.
const BASES: [Register; 6] =
    [Register::RSI, Register::RBP, Register::R10, Register::R11, Register::R12, Register::R13];

const STATUS: u64 = 0x8d5;

impl Writer {
    pub fn new(seed: u64) -> Writer {
        let codes =
            Code::values().filter(|code| code.op_code().mode64() && row(*code).is_some()).collect();
        Writer { random: Random::new(seed), codes, factory: InstructionInfoFactory::new() }
    }

    /// A random instruction that the translator copies, and its base register if it has a memory operand.
    fn instruction(&mut self) -> (Instruction, Option<Register>) {
        loop {
            let code = self.codes[self.random.below(self.codes.len())];
            let memory = (self.random.below(2) == 0).then(|| BASES[self.random.below(BASES.len())]);
            let numbers = std::array::from_fn(|_| self.random.below(16) as u8);
            let immediate = self.random.integer();
            let plan = Plan { numbers, memory, high_bytes: self.random.below(8) == 0, immediate };
            let Some(mut instruction) = form(code, &plan) else { continue };
            if memory.is_some() && code.op_code().can_use_lock_prefix() {
                instruction.set_has_lock_prefix(self.random.below(4) == 0);
            }
            if memory.is_some() {
                instruction.set_memory_displacement64(self.random.below(64) as u64 * 16);
            }
            let mut encoder = Encoder::new(64);
            if encoder.encode(&instruction, 0).is_err() {
                continue;
            }
            let bytes = encoder.take_buffer();
            let decoded = Decoder::new(64, &bytes, DecoderOptions::NONE).decode();
            let copied = !matches!(
                rule(
                    &decoded,
                    Conditions { vectors: true, x87: true, supervisor: true, guarded: false }
                ),
                Rule::Interpret
                    | Rule::Call
                    | Rule::Return
                    | Rule::Jump
                    | Rule::Branch
                    | Rule::MoveString
                    | Rule::StoreString
                    | Rule::BitString
                    | Rule::TimeStamp
                    | Rule::SystemReturn
                    | Rule::ReadBase(_)
                    | Rule::WriteBase(_)
            );
            if copied && !decoded.is_invalid() && !self.disturbs(&decoded, memory) {
                return (decoded, memory);
            }
        }
    }

    /// Changes RSP, or its own base before it is used.
    fn disturbs(&mut self, instruction: &Instruction, memory: Option<Register>) -> bool {
        let reads_time = matches!(instruction.code(), Code::Lahf);
        reads_time
            || self.factory.info(instruction).used_registers().iter().any(|used| {
                let register = used.register().full_register();
                let written = !matches!(used.access(), OpAccess::Read | OpAccess::CondRead);
                written && (register == Register::RSP || Some(register) == memory)
            })
    }

    /// A loop around a few instructions, 100 turns or as many as the counter says.
    pub fn program(&mut self, address: u64, counter: u64, data: u64) -> Program {
        use code_asm::*;
        let mut a = CodeAssembler::new(64).unwrap();
        let mut top = a.create_label();
        a.set_label(&mut top).unwrap();
        a.cmp(rax, rcx).unwrap();
        let mut undefined = 0;
        for _ in 0..3 + self.random.below(10) {
            match self.random.below(10) {
                0 => self.detour(&mut a),
                1 => self.call(&mut a),
                2 => self.stack(&mut a),
                3 => self.strings(&mut a, data),
                4 => self.bits(&mut a, data),
                _ => {
                    let (instruction, base) = self.instruction();
                    if u64::from(rflags(instruction.rflags_read())) & undefined != 0 {
                        a.cmp(rbx, rdx).unwrap();
                        undefined = 0;
                    }
                    if let Some(base) = base {
                        let at = data + 16 * self.random.below(0x80) as u64;
                        let base = register(base);
                        a.mov(base, at).unwrap();
                    }
                    a.add_instruction(instruction).unwrap();
                    let modified = u64::from(rflags(instruction.rflags_modified()));
                    let row = row(instruction.code()).unwrap();
                    undefined = undefined & !modified | row.undefined & modified;
                }
            }
        }
        a.dec(qword_ptr(counter)).unwrap();
        undefined &= 1;
        a.jne(top).unwrap();
        a.out(crate::guest::DONE, al).unwrap();
        a.hlt().unwrap();
        let bytes = a.assemble(address).unwrap();
        Program { bytes, undefined: undefined & STATUS }
    }

    /// A conditional branch over an instruction.
    fn detour(&mut self, a: &mut code_asm::CodeAssembler) {
        use code_asm::*;
        let mut over = a.create_label();
        a.cmp(rdx, self.random.below(1000) as i32).unwrap();
        match self.random.below(4) {
            0 => a.jb(over).unwrap(),
            1 => a.jle(over).unwrap(),
            2 => a.jnp(over).unwrap(),
            _ => a.jo(over).unwrap(),
        }
        a.add(rdx, 3).unwrap();
        a.inc(r11).unwrap();
        a.set_label(&mut over).unwrap();
        a.cmp(rdx, r11).unwrap();
    }

    /// A call, whose return takes another way now and then.
    fn call(&mut self, a: &mut code_asm::CodeAssembler) {
        use code_asm::*;
        let mut function = a.create_label();
        let mut past = a.create_label();
        a.jmp(past).unwrap();
        a.set_label(&mut function).unwrap();
        a.rol(rbx, 3).unwrap();
        a.add(r10, rbx).unwrap();
        match self.random.below(3) {
            0 => a.ret().unwrap(),
            1 => {
                a.pop(r9).unwrap();
                a.jmp(r9).unwrap();
            }
            _ => a.ret_1(8).unwrap(),
        }
        a.set_label(&mut past).unwrap();
        a.lea(r9, ptr(function)).unwrap();
        match self.random.below(2) {
            0 => a.call(function).unwrap(),
            _ => a.call(r9).unwrap(),
        }
        a.mov(rsp, crate::guest::STACK).unwrap();
        a.test(rbx, rbx).unwrap();
    }

    /// Strings that overlap, cross pages, are empty, or go backwards.
    fn strings(&mut self, a: &mut code_asm::CodeAssembler, data: u64) {
        use code_asm::*;
        let mut place = |most: usize| data + self.random.below(most) as u64;
        let (to, from) = (place(0x800), place(0x800));
        a.lea(rdi, ptr(rbx + rbx)).unwrap();
        a.and(rdi, 0x3ff).unwrap();
        a.add(rdi, to as i32).unwrap();
        a.mov(rsi, from).unwrap();
        a.mov(rcx, self.random.below(40) as u64).unwrap();
        let backwards = self.random.below(8) == 0;
        if backwards {
            a.std().unwrap();
        }
        match self.random.below(6) {
            0 => a.rep().movsb().unwrap(),
            1 => a.rep().movsq().unwrap(),
            2 => a.rep().stosd().unwrap(),
            3 => a.rep().stosb().unwrap(),
            4 => a.movsw().unwrap(),
            _ => a.stosq().unwrap(),
        }
        if backwards {
            a.cld().unwrap();
        }
        a.cmp(rdi, rbx).unwrap();
    }

    /// Bits far from their operand, before and behind it.
    fn bits(&mut self, a: &mut code_asm::CodeAssembler, data: u64) {
        use code_asm::*;
        a.mov(rsi, data + 0x400 + self.random.below(0x400) as u64).unwrap();
        a.mov(rcx, rbx).unwrap();
        a.shl(rcx, 51).unwrap();
        a.sar(rcx, 51).unwrap();
        match self.random.below(4) {
            0 => a.bt(qword_ptr(rsi), rcx).unwrap(),
            1 => a.lock().bts(qword_ptr(rsi + 8), rcx).unwrap(),
            2 => a.btr(dword_ptr(rsi - 4), ecx).unwrap(),
            _ => a.btc(qword_ptr(data + 0x600), rcx).unwrap(),
        }
        a.adc(rbx, 1).unwrap();
        a.test(rbx, rdi).unwrap();
    }

    fn stack(&mut self, a: &mut code_asm::CodeAssembler) {
        use code_asm::*;
        a.push(r10).unwrap();
        a.push(rsp).unwrap();
        a.push(0x1234_5678).unwrap();
        a.push(rdi).unwrap();
        a.mov(rbp, rsp).unwrap();
        a.add(dword_ptr(rsp + 8), eax).unwrap();
        a.pop(r11).unwrap();
        a.pop(rdi).unwrap();
        a.pop(rax).unwrap();
        a.leave().unwrap();
        a.mov(rsp, crate::guest::STACK).unwrap();
        a.xor(rax, r11).unwrap();
        if self.random.below(2) == 0 {
            self.row(a);
        }
    }

    /// What functions begin and end with, on a stack that may end a page in between.
    fn row(&mut self, a: &mut code_asm::CodeAssembler) {
        use code_asm::*;
        let mut function = a.create_label();
        let mut past = a.create_label();
        a.jmp(past).unwrap();
        a.set_label(&mut function).unwrap();
        a.push(rbx).unwrap();
        a.push(r10).unwrap();
        a.push(-3).unwrap();
        a.push(r15).unwrap();
        a.add(rbx, rdi).unwrap();
        a.pop(r11).unwrap();
        a.pop(r8).unwrap();
        a.pop(rdi).unwrap();
        a.pop(rbx).unwrap();
        if self.random.below(2) == 0 {
            a.ret().unwrap()
        } else {
            a.ret_1(16).unwrap()
        }
        a.set_label(&mut past).unwrap();
        a.sub(rsp, 0xfd0 + 8 * self.random.below(12) as i32).unwrap();
        a.call(function).unwrap();
        a.mov(rsp, crate::guest::STACK).unwrap();
        a.cmp(r11, rbx).unwrap();
    }
}

/// iced-x86's flags as RFLAGS bits.
fn rflags(bits: u32) -> u32 {
    use iced_x86::RflagsBits as R;
    [(R::CF, 0), (R::PF, 2), (R::AF, 4), (R::ZF, 6), (R::SF, 7), (R::OF, 11)]
        .into_iter()
        .filter(|(bit, _)| bits & bit != 0)
        .fold(0, |all, (_, at)| all | 1 << at)
}

fn register(register: Register) -> code_asm::AsmRegister64 {
    code_asm::get_gpr64(register).unwrap()
}
