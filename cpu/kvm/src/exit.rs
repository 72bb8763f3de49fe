//! What the page shared with KVM says about an exit (KVM API §5), where kvm-ioctls leaves it out.

#![expect(unsafe_code, reason = "`kvm_run` is a union that the exit reason selects from")]

use kvm_bindings::{
    KVM_EXIT_INTERNAL_ERROR, KVM_EXIT_IO, KVM_EXIT_IO_IN,
    KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES, kvm_run,
};

/// A port access: `data` holds one or more accesses of `size` bytes each (string instructions).
pub(crate) struct PortAccess<'a> {
    /// `in` rather than `out`.
    pub input: bool,
    /// The port.
    pub port: u16,
    /// Bytes in one access.
    pub size: usize,
    /// The accesses, one after another.
    pub data: &'a mut [u8],
}

/// The port access for which KVM_RUN returned; `None` when it did for another reason, or when the access
/// is not inside the mapped `length` bytes.
pub(crate) fn port_access(run: &mut kvm_run, length: usize) -> Option<PortAccess<'_>> {
    if run.exit_reason != KVM_EXIT_IO {
        return None;
    }
    // SAFETY: the exit reason says that `io` is the valid member, and all its bit patterns are valid.
    let io = unsafe { run.__bindgen_anon_1.io };
    let offset = usize::try_from(io.data_offset).ok()?;
    let bytes = usize::from(io.size) * io.count as usize;
    if io.size == 0 || offset.checked_add(bytes)? > length {
        return None;
    }
    let base = (&raw mut *run).cast::<u8>();
    // SAFETY: `run` is the start of a mapping of `length` bytes, in which the range was just checked to
    // lie; the result borrows `run`, so nothing else of ours reaches the mapping meanwhile, and KVM
    // writes to it only in KVM_RUN.
    let data = unsafe { std::slice::from_raw_parts_mut(base.add(offset), bytes) };
    Some(PortAccess {
        input: u32::from(io.direction) == KVM_EXIT_IO_IN,
        port: io.port,
        size: usize::from(io.size),
        data,
    })
}

/// Why KVM gave up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InternalError {
    /// KVM_INTERNAL_ERROR_….
    pub suberror: u32,
    /// The instruction's bytes, where KVM gives them; at most 15.
    pub instruction: Vec<u8>,
}

/// The internal error for which KVM_RUN returned.
pub(crate) fn internal_error(run: &kvm_run) -> Option<InternalError> {
    if run.exit_reason != KVM_EXIT_INTERNAL_ERROR {
        return None;
    }
    // SAFETY: the exit reason says that `internal` is the valid member, of which `emulation_failure` is
    // another reading with the same first fields; all bit patterns are valid.
    let failure = unsafe { run.__bindgen_anon_1.emulation_failure };
    let flags = u64::from(KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES);
    let mut instruction = Vec::new();
    if failure.ndata >= 3 && failure.flags & flags != 0 {
        // SAFETY: the flag says that these fields are valid; all bit patterns are.
        let bytes = unsafe { failure.__bindgen_anon_1.__bindgen_anon_1 };
        instruction.extend(bytes.insn_bytes.iter().take(usize::from(bytes.insn_size)));
    }
    Some(InternalError { suberror: failure.suberror, instruction })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_access_outside_the_shared_page_is_refused() {
        let mut run = kvm_run { exit_reason: KVM_EXIT_IO, ..Default::default() };
        let length = size_of::<kvm_run>();
        run.__bindgen_anon_1.io.size = 4;
        run.__bindgen_anon_1.io.count = 2;
        for (offset, inside) in [(length - 8, true), (length - 7, false), (usize::MAX, false)] {
            run.__bindgen_anon_1.io.data_offset = offset as u64;
            assert_eq!(port_access(&mut run, length).is_some(), inside, "offset {offset}");
        }
    }
}
