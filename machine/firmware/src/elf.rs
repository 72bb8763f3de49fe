//! ELF program headers: what is loaded where.

use crate::image::{self, Fields};
use crate::placement::Placement;
use crate::spec::elf;
use crate::{Image, KernelError};

/// An ELF file's program headers and entry point.
#[derive(Debug)]
pub(crate) struct Elf {
    pub entry: u64,
    pub segments: Vec<Segment>,
}

/// One program header.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Segment {
    pub kind: u32,
    pub offset: u64,
    pub virtual_address: u64,
    pub physical_address: u64,
    pub file_size: u64,
    pub memory_size: u64,
}

impl Elf {
    /// Reads the headers of an x86 ELF file; `None` when it is no ELF file.
    pub(crate) fn parse(kernel: &dyn Image, head: &[u8]) -> Result<Option<Elf>, KernelError> {
        let fields = Fields(head);
        if fields.array(0) != elf::MAGIC {
            return Ok(None);
        }
        image::check_inside(kernel, "the ELF header", 0, elf::HEADER)?;
        let machine = fields.u16(elf::MACHINE);
        if fields.u8(elf::DATA) != elf::DATA_LSB
            || ![elf::EM_386, elf::EM_X86_64].contains(&machine)
        {
            return Err(KernelError::Unsupported("another processor than x86"));
        }
        let (entry, table, size, count, wanted) = match fields.u8(elf::CLASS) {
            elf::CLASS_32 => (
                fields.u32(elf::ENTRY).into(),
                fields.u32(28).into(),
                fields.u16(42),
                fields.u16(44),
                elf::PHENTSIZE_32,
            ),
            elf::CLASS_64 => (
                fields.u64(elf::ENTRY),
                fields.u64(32),
                fields.u16(54),
                fields.u16(56),
                elf::PHENTSIZE_64,
            ),
            class => return Err(damaged("EI_CLASS", class, "it is 1 or 2")),
        };
        if size != wanted {
            return Err(damaged("e_phentsize", size, "it is 32 or 56 by class"));
        }
        if count == 0 || count > elf::PHNUM_MOST {
            return Err(damaged("e_phnum", count, "a kernel has 1 to 128 program headers"));
        }
        let length = u64::from(size) * u64::from(count);
        let headers = image::read(kernel, "the program headers", table, length)?;
        let segments = headers.chunks_exact(size.into()).map(Segment::parse).collect();
        Ok(Some(Elf { entry, segments }))
    }

    /// Loads every segment at its physical address.
    pub(crate) fn load(
        &self,
        placement: &mut Placement<'_>,
        kernel: &dyn Image,
    ) -> Result<(), KernelError> {
        let loaded = |s: &&Segment| s.kind == elf::PT_LOAD && s.memory_size > 0;
        for segment in self.segments.iter().filter(loaded) {
            let Segment { offset, physical_address, file_size, memory_size, .. } = *segment;
            if file_size > memory_size {
                return Err(damaged("p_filesz", file_size, "it is at most p_memsz"));
            }
            image::check_inside(kernel, "a segment", offset, file_size)?;
            placement.take(physical_address, memory_size)?;
            placement.copy(kernel, offset, physical_address, file_size)?;
            placement.zero(physical_address + file_size, memory_size - file_size)?;
        }
        Ok(())
    }

    /// The physical address of the entry point: moved as its segment is.
    pub(crate) fn physical_entry(&self) -> u64 {
        let holds = |s: &&Segment| {
            s.kind == elf::PT_LOAD
                && self.entry.checked_sub(s.virtual_address).is_some_and(|d| d < s.memory_size)
        };
        self.segments
            .iter()
            .find(holds)
            .map_or(self.entry, |s| s.physical_address.wrapping_add(self.entry - s.virtual_address))
    }
}

impl Segment {
    fn parse(header: &[u8]) -> Segment {
        let fields = Fields(header);
        let kind = fields.u32(0);
        if header.len() == usize::from(elf::PHENTSIZE_64) {
            return Segment {
                kind,
                offset: fields.u64(8),
                virtual_address: fields.u64(16),
                physical_address: fields.u64(24),
                file_size: fields.u64(32),
                memory_size: fields.u64(40),
            };
        }
        Segment {
            kind,
            offset: fields.u32(4).into(),
            virtual_address: fields.u32(8).into(),
            physical_address: fields.u32(12).into(),
            file_size: fields.u32(16).into(),
            memory_size: fields.u32(20).into(),
        }
    }
}

fn damaged(field: &'static str, value: impl Into<u64>, rule: &'static str) -> KernelError {
    KernelError::Damaged { field, value: value.into(), rule }
}
