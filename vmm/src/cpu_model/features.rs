//! The features of x86-64 CPUs by the names that Linux shows in `/proc/cpuinfo`.
//!
//! Bits: Intel SDM vol. 2A, CPUID, leaves 01H, 07H, 0DH; AMD APM vol. 3 appendix E.4 for 8000_0001H.
//! Levels: System V ABI, AMD64 supplement, table 3.1.

use kezhan_hypervisor::CpuidTable;

/// Where a feature stands among the models.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    /// For kernels: in every model, where the engine has it.
    System,
    /// Promised by x86-64-v1 (all of it is part of 64-bit mode and not in the table).
    V1,
    /// Promised by x86-64-v2.
    V2,
    /// By x86-64-v3.
    V3,
    /// By x86-64-v4.
    V4,
    /// By none: only in `host`, or when asked for.
    Extra,
}

impl Level {
    pub(super) fn within(self, model: Level) -> bool {
        self <= model
    }

    pub(super) fn promised(self) -> bool {
        !matches!(self, Level::System | Level::Extra)
    }
}

/// A register of feature bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Word {
    leaf: u32,
    subleaf: u32,
    register: usize,
}

const fn word(leaf: u32, subleaf: u32, register: usize) -> Word {
    Word { leaf, subleaf, register }
}

const W1C: Word = word(1, 0, 2);
const W7B: Word = word(7, 0, 1);
const W7C: Word = word(7, 0, 2);
const W7D: Word = word(7, 0, 3);
const W71A: Word = word(7, 1, 0);
const WDA: Word = word(0xd, 1, 0);
const WXC: Word = word(0x8000_0001, 0, 2);
const WXD: Word = word(0x8000_0001, 0, 3);

/// The words in which models differ. 01H EDX and 8000_0001H EDX are of every model.
pub(super) const WORDS: [Word; 7] = [W1C, W7B, W7C, W7D, W71A, WDA, WXC];

impl Word {
    pub(super) fn alter(self, table: &mut CpuidTable, change: impl Fn(u32) -> u32) {
        let Some(mut entry) = table.find(self.leaf, self.subleaf).copied() else { return };
        if let Some(register) = entry.registers.get_mut(self.register) {
            *register = change(*register);
            table.set(entry);
        }
    }

    fn value(self, table: &CpuidTable) -> u32 {
        let entry = table.find(self.leaf, self.subleaf);
        entry.and_then(|e| e.registers.get(self.register).copied()).unwrap_or(0)
    }
}

/// A feature.
#[derive(Clone, Copy, Debug)]
pub(super) struct Feature {
    pub(super) name: &'static str,
    pub(super) word: Word,
    pub(super) bit: u32,
    pub(super) level: Level,
    /// It cannot be there without this one.
    pub(super) needs: Option<&'static str>,
}

impl Feature {
    pub(super) fn is_in(&self, table: &CpuidTable) -> bool {
        self.word.value(table) >> self.bit & 1 == 1
    }

    pub(super) fn set(&self, table: &mut CpuidTable, on: bool) {
        let mask = 1 << self.bit;
        self.word.alter(table, |value| if on { value | mask } else { value & !mask });
    }
}

const fn f(name: &'static str, word: Word, bit: u32, level: Level) -> Feature {
    Feature { name, word, bit, level, needs: None }
}

const fn after(needs: &'static str, feature: Feature) -> Feature {
    Feature { needs: Some(needs), ..feature }
}

use Level::{Extra, System, V2, V3, V4};

/// The list.
pub(super) const FEATURES: &[Feature] = &[
    f("pni", W1C, 0, V2),
    f("pclmulqdq", W1C, 1, Extra),
    f("monitor", W1C, 3, System),
    f("vmx", W1C, 5, Extra),
    after("pni", f("ssse3", W1C, 9, V2)),
    after("avx", f("fma", W1C, 12, V3)),
    f("cx16", W1C, 13, V2),
    f("pcid", W1C, 17, System),
    after("ssse3", f("sse4_1", W1C, 19, V2)),
    after("sse4_1", f("sse4_2", W1C, 20, V2)),
    f("x2apic", W1C, 21, System),
    f("movbe", W1C, 22, V3),
    f("popcnt", W1C, 23, V2),
    f("tsc_deadline_timer", W1C, 24, System),
    f("aes", W1C, 25, Extra),
    f("xsave", W1C, 26, V3),
    after("xsave", f("avx", W1C, 28, V3)),
    after("avx", f("f16c", W1C, 29, V3)),
    f("rdrand", W1C, 30, Extra),
    f("hypervisor", W1C, 31, System),
    f("fsgsbase", W7B, 0, System),
    f("tsc_adjust", W7B, 1, System),
    f("bmi1", W7B, 3, V3),
    after("avx", f("avx2", W7B, 5, V3)),
    f("smep", W7B, 7, System),
    f("bmi2", W7B, 8, V3),
    f("erms", W7B, 9, Extra),
    f("invpcid", W7B, 10, System),
    f("mpx", W7B, 14, Extra),
    after("avx2", f("avx512f", W7B, 16, V4)),
    after("avx512f", f("avx512dq", W7B, 17, V4)),
    f("rdseed", W7B, 18, Extra),
    f("adx", W7B, 19, Extra),
    f("smap", W7B, 20, System),
    after("avx512f", f("avx512ifma", W7B, 21, Extra)),
    f("clflushopt", W7B, 23, Extra),
    f("clwb", W7B, 24, Extra),
    after("avx512f", f("avx512cd", W7B, 28, V4)),
    f("sha_ni", W7B, 29, Extra),
    after("avx512f", f("avx512bw", W7B, 30, V4)),
    after("avx512f", f("avx512vl", W7B, 31, V4)),
    after("avx512f", f("avx512vbmi", W7C, 1, Extra)),
    f("umip", W7C, 2, System),
    after("xsave", f("pku", W7C, 3, Extra)),
    f("waitpkg", W7C, 5, Extra),
    after("avx512f", f("avx512_vbmi2", W7C, 6, Extra)),
    f("gfni", W7C, 8, Extra),
    after("avx", f("vaes", W7C, 9, Extra)),
    after("avx", f("vpclmulqdq", W7C, 10, Extra)),
    after("avx512f", f("avx512_vnni", W7C, 11, Extra)),
    after("avx512f", f("avx512_bitalg", W7C, 12, Extra)),
    after("avx512f", f("avx512_vpopcntdq", W7C, 14, Extra)),
    f("la57", W7C, 16, System),
    f("rdpid", W7C, 22, Extra),
    f("movdiri", W7C, 27, Extra),
    f("movdir64b", W7C, 28, Extra),
    f("fsrm", W7D, 4, Extra),
    f("md_clear", W7D, 10, System),
    f("serialize", W7D, 14, Extra),
    after("xsave", f("amx_bf16", W7D, 22, Extra)),
    after("xsave", f("amx_tile", W7D, 24, Extra)),
    after("xsave", f("amx_int8", W7D, 25, Extra)),
    f("ibrs", W7D, 26, System),
    f("stibp", W7D, 27, System),
    f("flush_l1d", W7D, 28, System),
    f("arch_capabilities", W7D, 29, System),
    f("ssbd", W7D, 31, System),
    after("avx2", f("avx_vnni", W71A, 4, Extra)),
    after("avx512f", f("avx512_bf16", W71A, 5, Extra)),
    after("xsave", f("xsaveopt", WDA, 0, System)),
    after("xsave", f("xsavec", WDA, 1, System)),
    after("xsave", f("xgetbv1", WDA, 2, System)),
    after("xsave", f("xsaves", WDA, 3, System)),
    f("lahf_lm", WXC, 0, V2),
    f("svm", WXC, 2, Extra),
    f("cr8_legacy", WXC, 4, System),
    f("abm", WXC, 5, V3),
    f("3dnowprefetch", WXC, 8, System),
    f("topoext", WXC, 22, System),
    f("syscall", WXD, 11, System),
    f("nx", WXD, 20, System),
    f("pdpe1gb", WXD, 26, System),
    f("rdtscp", WXD, 27, System),
    f("lm", WXD, 29, System),
];
