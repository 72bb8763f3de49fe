//! Decoded blocks, kept by physical address.
//!
//! ```text
//!   linear RIP ─► jump cache (RIP, view, width; valid for one generation) ─► block
//!                   │ miss
//!                   ▼
//!               translate ─► physical address and width ─► table ─► block
//!                                                            │ miss
//!                                                            ▼
//!                                                   mark code, read, decode
//! ```
//!
//! Physical keys make blocks survive changes of address space. The jump cache is only a short cut; it is as
//! old as the TLB's generation, which every flush and every dropped page moves on.

use crate::memory::SoftMemory;

use kezhan_jit::translate::Entry;
use kezhan_x86::Op;
use kezhan_x86::block::Block;
use kezhan_x86::state::CodeBits;
use kezhan_x86::table::rule::touches_vectors;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Instructions over a page's end after which their counts start again.
const MOST_ACROSS: usize = 1 << 14;
/// Blocks after which those that were worth a translation are forgotten.
const MOST_WORTH: usize = 1 << 12;
const JUMPS: usize = 1 << 14;
const SINGLES: usize = 1024;

/// Where a block is, physically, and how it was decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key(u64);

impl Key {
    /// For code at a physical address.
    pub fn new(physical: u64, code_bits: CodeBits) -> Key {
        Key(physical << 2 | code_bits as u64)
    }

    fn page(self) -> u64 {
        self.0 >> 14
    }
}

/// Spreads keys over the table: multiplication by an odd number, upper bits first.
#[derive(Default)]
pub(crate) struct Spread(u64);

impl Hasher for Spread {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0 ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(26);
    }
}

type Map<V> = HashMap<u64, V, BuildHasherDefault<Spread>>;

/// A block, and how often it has run.
#[derive(Debug)]
pub struct Warm {
    /// The block.
    pub block: Block<SoftMemory>,
    /// Some instruction has to do with XMM or x87 registers or MXCSR.
    pub vectors: bool,
    /// Only ever touched by the vCPU's own thread.
    heat: AtomicU32,
}

/// The heat of a block whose first instruction is the interpreter's.
const REFUSED: u32 = u32::MAX;

impl Warm {
    fn new(block: Block<SoftMemory>) -> Warm {
        let touches = |op: &Op<SoftMemory>| {
            iced_x86::Code::try_from(usize::from(op.code)).is_ok_and(touches_vectors)
        };
        let vectors = block.ops.iter().any(touches);
        Warm { block, vectors, heat: AtomicU32::new(0) }
    }

    /// Whether the last instruction ends more than so many bytes behind the block's start.
    pub fn reaches_beyond(&self, bytes: u64) -> bool {
        let end = |op: &Op<SoftMemory>| u64::from(op.offset) + u64::from(op.len);
        self.block.ops.last().map_or(0, end) > bytes
    }

    /// Counts a run; the number of runs so far.
    #[inline(always)]
    pub fn warm_up(&self) -> u32 {
        let heat = self.heat.load(Ordering::Relaxed);
        self.heat.store(heat.saturating_add(1), Ordering::Relaxed);
        heat
    }

    /// Lets the runs start at `heat` again, if there were more, unless the block was refused.
    pub fn cool_down(&self, heat: u32) {
        if !self.is_refused() && self.heat.load(Ordering::Relaxed) > heat {
            self.heat.store(heat, Ordering::Relaxed);
        }
    }

    /// The translator does not take the block's first instruction.
    pub fn refuse(&self) {
        self.heat.store(REFUSED, Ordering::Relaxed);
    }

    /// Whether it was refused.
    #[inline(always)]
    pub fn is_refused(&self) -> bool {
        self.heat.load(Ordering::Relaxed) == REFUSED
    }
}

/// What is known of a linear RIP.
#[derive(Clone, Debug, Default)]
pub struct Jump {
    rip: u64,
    tag: u64,
    /// The block there.
    pub block: Option<Arc<Warm>>,
    /// Its superblock, which runs instead.
    pub entry: Option<Entry>,
}

/// The blocks of one vCPU.
pub struct BlockCache {
    blocks: Map<Arc<Warm>>,
    pages: Map<Vec<Key>>,
    jumps: Box<[Jump]>,
    singles: Box<[Jump]>,
    /// Blocks that were translated when their bytes changed.
    worth: HashSet<u64, BuildHasherDefault<Spread>>,
    /// How often instructions over a page's end have run, by physical address: their blocks are not kept.
    across: Map<u32>,
    ops: usize,
    /// When the blocks hold more instructions than this, all are dropped: 48 bytes each.
    room: usize,
}

impl std::fmt::Debug for BlockCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BlockCache({} blocks, {} ops)", self.blocks.len(), self.ops)
    }
}

#[inline(always)]
fn jump_slot(rip: u64) -> usize {
    (rip ^ rip >> 12) as usize & (JUMPS - 1)
}

impl BlockCache {
    /// Without blocks, for about so many instructions.
    pub fn new(room: usize) -> BlockCache {
        BlockCache {
            blocks: Map::default(),
            pages: Map::default(),
            jumps: vec![Jump::default(); JUMPS].into(),
            singles: vec![Jump::default(); SINGLES].into(),
            worth: HashSet::default(),
            across: Map::default(),
            ops: 0,
            room,
        }
    }

    /// What was last found for `rip` with the same `tag` (generation, view, width).
    #[inline(always)]
    pub fn jump(&self, rip: u64, tag: u64) -> Option<&Jump> {
        let jump = &self.jumps[jump_slot(rip)];
        (jump.rip == rip && jump.tag == tag).then_some(jump)
    }

    /// Remembers a block for [`BlockCache::jump`].
    pub fn remember(&mut self, rip: u64, tag: u64, block: Arc<Warm>, entry: Option<Entry>) {
        self.jumps[jump_slot(rip)] = Jump { rip, tag, block: Some(block), entry };
    }

    /// Remembers a superblock alone for [`BlockCache::jump`].
    pub fn remember_entry(&mut self, rip: u64, tag: u64, entry: Entry) {
        self.jumps[jump_slot(rip)] = Jump { rip, tag, block: None, entry: Some(entry) };
    }

    /// The block of one instruction that was last found for `rip` with the same `tag`.
    #[inline(always)]
    pub fn single(&self, rip: u64, tag: u64) -> Option<&Arc<Warm>> {
        let jump = &self.singles[jump_slot(rip) & (SINGLES - 1)];
        if jump.rip == rip && jump.tag == tag { jump.block.as_ref() } else { None }
    }

    /// Remembers a block for [`BlockCache::single`].
    pub fn remember_single(&mut self, rip: u64, tag: u64, block: Block<SoftMemory>) -> Arc<Warm> {
        let warm = Arc::new(Warm::new(block));
        let block = Some(warm.clone());
        self.singles[jump_slot(rip) & (SINGLES - 1)] = Jump { rip, tag, block, entry: None };
        warm
    }

    /// Counts a run of an instruction that lies over its page's end; the number of runs so far.
    pub fn warm_up_across(&mut self, physical: u64) -> u32 {
        if self.across.len() > MOST_ACROSS {
            self.across.clear();
        }
        let heat = self.across.entry(physical).or_insert(0);
        *heat = heat.saturating_add(1);
        *heat
    }

    /// The block at a key.
    pub fn find(&self, key: Key) -> Option<Arc<Warm>> {
        self.blocks.get(&key.0).cloned()
    }

    /// Keeps a block.
    /// One that was translated before its bytes changed has run `almost` times already, so to speak.
    pub fn insert(&mut self, key: Key, block: Block<SoftMemory>, almost: u32) -> Arc<Warm> {
        if self.ops > self.room {
            self.clear();
        }
        self.ops += block.ops.len();
        let block = Arc::new(Warm::new(block));
        if self.worth.contains(&key.0) {
            block.heat.store(almost, Ordering::Relaxed);
        }
        self.blocks.insert(key.0, block.clone());
        self.pages.entry(key.page()).or_default().push(key);
        block
    }

    /// The block at a key has been translated.
    pub fn note_worth(&mut self, key: Key) {
        if self.worth.len() >= MOST_WORTH {
            self.worth.clear();
        }
        self.worth.insert(key.0);
    }

    /// Drops the blocks of a physical page (its number). The caller moves the generation on.
    pub fn drop_page(&mut self, page: u64) {
        for key in self.pages.remove(&page).unwrap_or_default() {
            if let Some(block) = self.blocks.remove(&key.0) {
                self.ops -= block.block.ops.len();
            }
        }
    }

    /// Drops everything.
    pub fn clear(&mut self) {
        *self = BlockCache::new(self.room);
    }
}
