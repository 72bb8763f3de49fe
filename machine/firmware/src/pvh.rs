//! PVH: an ELF kernel whose note names a 32-bit entry point.
//!
//! ```text
//!   EBX ──► hvm_start_info ──► memory map entries
//!                         ├──► module list ──► initial RAM disk
//!                         ├──► command line
//!                         └──► RSDP
//! ```

use crate::elf::Elf;
use crate::image::{self, Fields};
use crate::placement::{Loaded, Placement, Structure};
use crate::processor::{Entry, Mode, check_low_block, write_tables};
use crate::spec::{elf, low, pvh};
use crate::{Guest, Image, KernelError};

/// The entry point that the PVH note names, if there is such a note.
pub(crate) fn entry_note(kernel: &dyn Image, file: &Elf) -> Result<Option<u64>, KernelError> {
    for segment in file.segments.iter().filter(|s| s.kind == elf::PT_NOTE) {
        let length = segment.file_size.min(elf::NOTES_MOST);
        let notes = image::read(kernel, "the notes", segment.offset, length)?;
        if let Some(entry) = find_note(&notes) {
            return Ok(Some(entry));
        }
    }
    Ok(None)
}

fn find_note(mut notes: &[u8]) -> Option<u64> {
    while notes.len() >= elf::NOTE_HEADER {
        let fields = Fields(notes);
        let name_size = fields.u32(0) as usize;
        let descriptor_size = fields.u32(4) as usize;
        let name = elf::NOTE_HEADER;
        let descriptor = name + name_size.next_multiple_of(4);
        if fields.u32(8) == pvh::PHYS32_ENTRY
            && notes.get(name..name + name_size) == Some(pvh::NOTE_NAME)
        {
            return match descriptor_size {
                4 => Some(fields.u32(descriptor).into()),
                8 => Some(fields.u64(descriptor)),
                _ => None,
            };
        }
        notes = notes.get(descriptor + descriptor_size.next_multiple_of(4)..)?;
    }
    None
}

pub(crate) fn load(
    mut placement: Placement<'_>,
    guest: &Guest<'_>,
    file: &Elf,
    entry: u64,
) -> Result<Entry, KernelError> {
    check_low_block(&placement)?;
    if u32::try_from(entry).is_err() {
        return Err(KernelError::Damaged {
            field: "the PVH entry point",
            value: entry,
            rule: "it lies below 4 GiB",
        });
    }
    file.load(&mut placement, guest.kernel)?;
    placement.write_cmdline(guest.cmdline, usize::MAX)?;
    let initrd = placement.load_initrd(guest.initrd, u64::from(u32::MAX))?;
    write_lists(&placement, initrd)?;
    placement.write(low::INFO, start_info(guest, initrd).bytes())?;
    write_tables(&placement, Mode::Protected)?;
    Ok(Entry { mode: Mode::Protected, rip: entry, rax: 0, rbx: low::INFO, rsi: 0 })
}

/// The module list, then the memory map.
fn write_lists(placement: &Placement<'_>, initrd: Option<Loaded>) -> Result<(), KernelError> {
    let initrd = initrd.unwrap_or(Loaded { address: 0, length: 0 });
    placement.write_words(low::LISTS, &[initrd.address, initrd.length, 0, 0])?;
    let map = placement.map().iter();
    let words: Vec<u64> = map.flat_map(|e| [e.address, e.length, e.kind.number().into()]).collect();
    placement.write_words(low::LISTS + pvh::MODULE, &words)
}

fn start_info(guest: &Guest<'_>, initrd: Option<Loaded>) -> Structure {
    let mut info = Structure::new(pvh::START_INFO);
    info.put_u32(0, pvh::MAGIC.into());
    info.put_u32(4, pvh::VERSION.into());
    info.put_u32(12, u64::from(initrd.is_some()));
    info.put(16, &if initrd.is_some() { low::LISTS } else { 0 }.to_le_bytes());
    info.put(24, &low::CMDLINE.to_le_bytes());
    info.put(32, &guest.rsdp.to_le_bytes());
    info.put(40, &(low::LISTS + pvh::MODULE).to_le_bytes());
    info.put_u32(48, guest.memory_map.len() as u64);
    info
}
