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

use kezhan_x86::block::Block;
use kezhan_x86::state::CodeBits;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

/// When the blocks hold more instructions than this, all are dropped: 48 bytes each.
const MOST_OPS: usize = 1 << 20;
const JUMPS: usize = 4096;

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
struct Spread(u64);

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

#[derive(Clone, Default)]
struct Jump {
    rip: u64,
    tag: u64,
    block: Option<Arc<Block<SoftMemory>>>,
}

/// The blocks of one vCPU.
pub struct BlockCache {
    blocks: Map<Arc<Block<SoftMemory>>>,
    pages: Map<Vec<Key>>,
    jumps: Box<[Jump]>,
    ops: usize,
}

impl std::fmt::Debug for BlockCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BlockCache({} blocks, {} ops)", self.blocks.len(), self.ops)
    }
}

impl Default for BlockCache {
    fn default() -> BlockCache {
        BlockCache {
            blocks: Map::default(),
            pages: Map::default(),
            jumps: vec![Jump::default(); JUMPS].into(),
            ops: 0,
        }
    }
}

#[inline(always)]
fn jump_slot(rip: u64) -> usize {
    (rip ^ rip >> 12) as usize & (JUMPS - 1)
}

impl BlockCache {
    /// The block that was last found for `rip` with the same `tag` (generation, privilege, width).
    #[inline(always)]
    pub fn jump(&self, rip: u64, tag: u64) -> Option<&Arc<Block<SoftMemory>>> {
        let jump = &self.jumps[jump_slot(rip)];
        if jump.rip == rip && jump.tag == tag { jump.block.as_ref() } else { None }
    }

    /// Remembers a block for [`BlockCache::jump`].
    pub fn remember(&mut self, rip: u64, tag: u64, block: Arc<Block<SoftMemory>>) {
        self.jumps[jump_slot(rip)] = Jump { rip, tag, block: Some(block) };
    }

    /// The block at a key.
    pub fn find(&self, key: Key) -> Option<Arc<Block<SoftMemory>>> {
        self.blocks.get(&key.0).cloned()
    }

    /// Keeps a block.
    pub fn insert(&mut self, key: Key, block: Block<SoftMemory>) -> Arc<Block<SoftMemory>> {
        if self.ops > MOST_OPS {
            self.clear();
        }
        self.ops += block.ops.len();
        let block = Arc::new(block);
        self.blocks.insert(key.0, block.clone());
        self.pages.entry(key.page()).or_default().push(key);
        block
    }

    /// Drops the blocks of a physical page (its number). The caller moves the generation on.
    pub fn drop_page(&mut self, page: u64) {
        for key in self.pages.remove(&page).unwrap_or_default() {
            if let Some(block) = self.blocks.remove(&key.0) {
                self.ops -= block.ops.len();
            }
        }
    }

    /// Drops everything.
    pub fn clear(&mut self) {
        *self = BlockCache::default();
    }
}
