//! The smallest guests: multiboot kernels (multiboot 0.6.96 §3.1) of a few instructions of 32-bit code.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

const BASE: u32 = 0x10_0000;
const HEADER: u32 = 32;
const MAGIC: u32 = 0x1bad_b002;
/// The addresses in the header are valid.
const ADDRESSES: u32 = 1 << 16;

/// Leaves through `isa-debug-exit` at port 0xf4 with code 0: exit status 1.
const EXIT: &[u8] = &[0x31, 0xc0, 0xe6, 0xf4, 0xf4];

/// The instructions in each turn of [`counting`]'s loop.
pub(super) const TURN: u64 = 10;

/// Ends at once.
pub(super) fn empty() -> Vec<u8> {
    kernel(EXIT)
}

/// Halts for good.
pub(super) fn halting() -> Vec<u8> {
    kernel(&[0xfa, 0xf4, 0xeb, 0xfd])
}

/// A mixed load of ten instructions, `turns` times: arithmetic, a load, a store, a call, branches.
pub(super) fn counting(turns: u32) -> Vec<u8> {
    let mut code = vec![0xbc, 0x00, 0x00, 0x20, 0x00]; // mov esp, 0x200000
    code.extend([0xbe, 0x00, 0x00, 0x20, 0x00]); // mov esi, 0x200000
    code.push(0xb9); // mov ecx, turns
    code.extend(turns.to_le_bytes());
    let turn: &[&[u8]] = &[
        &[0x01, 0xc8],                   // 1: add eax, ecx
        &[0x33, 0x06],                   // xor eax, [esi]
        &[0x89, 0x46, 0x04],             // mov [esi + 4], eax
        &[0xe8, 0x05, 0x00, 0x00, 0x00], // call 2f
        &[0x49],                         // dec ecx
        &[0x75, 0xf1],                   // jnz 1b
        &[0xeb, 0x04],                   // jmp 3f
        &[0xd1, 0xc0],                   // 2: rol eax, 1
        &[0x8d, 0x13],                   // lea edx, [ebx]
        &[0x43],                         // inc ebx
        &[0xc3],                         // ret
    ];
    code.extend(turn.concat());
    // 3f is after `2:`'s six bytes.
    let jump = code.len() - 7;
    code[jump] = 0x06;
    code.extend(EXIT);
    kernel(&code)
}

fn kernel(code: &[u8]) -> Vec<u8> {
    let end = BASE + HEADER + u32::try_from(code.len()).unwrap_or(u32::MAX - BASE - HEADER);
    let checksum = 0u32.wrapping_sub(MAGIC).wrapping_sub(ADDRESSES);
    // magic, flags, checksum, header, load, end of load, end of bss, entry
    let header = [MAGIC, ADDRESSES, checksum, BASE, BASE, end, end, BASE + HEADER];
    let mut image: Vec<u8> = header.iter().flat_map(|word| word.to_le_bytes()).collect();
    image.extend_from_slice(code);
    image
}

/// Writes it as a file.
pub(super) fn write(folder: &Path, name: &str, image: &[u8]) -> io::Result<PathBuf> {
    let path = folder.join(name);
    fs::write(&path, image)?;
    Ok(path)
}
