//! Which status flags somebody may still read.
//!
//! The guest's flags are the host's, and a check of ours destroys them. So they are saved before a check,
//! but only where an instruction may read them before they are written again. Within a superblock that is
//! known; for a branch that leaves it, a few instructions at its target are looked at, when they lie in
//! the same page: then whoever changes them drops this block as well. Anywhere else (returns, indirect
//! branches, other pages, the interpreter) all flags count as read: no calling convention is assumed.

use super::step::{STATUS, Step};
use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction};

/// Bytes that are looked at from a branch target on.
pub const PEEK: usize = 32;

/// The page that a superblock lies in.
#[derive(Clone, Copy, Debug)]
pub struct CodePage<'a> {
    /// Linear address of its first byte.
    pub start: u64,
    /// Its bytes.
    pub bytes: &'a [u8],
    /// Addresses from which [`PEEK`] bytes are known to be watched for changes.
    pub watched: &'a [u64],
}

impl CodePage<'_> {
    /// Flags that may be read by what starts at `rip`.
    pub(super) fn live_at(&self, rip: u64) -> u32 {
        if !self.watched.contains(&rip) {
            return STATUS;
        }
        let offset = rip.wrapping_sub(self.start) as usize;
        let end = (offset + PEEK).min(self.bytes.len());
        let Some(bytes) = self.bytes.get(offset..end) else { return STATUS };
        let mut decoder = Decoder::with_ip(64, bytes, rip, DecoderOptions::NONE);
        let mut instruction = Instruction::default();
        let (mut live, mut open) = (0, STATUS);
        while decoder.can_decode() && open != 0 {
            decoder.decode_out(&mut instruction);
            if instruction.is_invalid() {
                break;
            }
            live |= instruction.rflags_read() & open;
            if instruction.flow_control() != FlowControl::Next {
                break;
            }
            open &= !super::step::kills(&instruction);
        }
        live | open
    }
}

/// For each step the flags that are read at it or behind it; one more entry for what follows the last.
pub(super) fn liveness(steps: &[Step], page: &CodePage<'_>, next: u64) -> Vec<u32> {
    let mut live = vec![0; steps.len() + 1];
    live[steps.len()] = match steps.last() {
        Some(last) if last.ends() => 0,
        _ => page.live_at(next),
    };
    for (at, step) in steps.iter().enumerate().rev() {
        let behind = match (step.ends(), step.target()) {
            (true, Some(target)) => page.live_at(target),
            (true, None) => STATUS,
            (false, Some(target)) => live[at + 1] | page.live_at(target),
            (false, None) => live[at + 1],
        };
        live[at] = step.reads | behind & !step.kills;
    }
    live
}
