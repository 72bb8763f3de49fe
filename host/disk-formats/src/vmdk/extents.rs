//! A disk of several extents, one after the other.

use super::{ExtentLine, sparse};
use crate::blocks::Blocks;
use kezhan_block::{
    BlockError, Format, FormatInfo, GuestOffset, HostOffset, Mapping, MappingKind, OpenContext,
    Reference, ReferenceKind, Result, Span, Storage, Ticket, WritePlan,
};
use std::any::Any;
use std::sync::Arc;

#[derive(Debug)]
enum Kind {
    Flat { file: Arc<dyn Storage>, offset: u64 },
    Sparse(Box<Blocks<sparse::Sparse>>),
    Zero,
}

#[derive(Debug)]
struct Extent {
    start: u64,
    length: u64,
    kind: Kind,
}

/// The extents in their order.
#[derive(Debug)]
pub struct Extents {
    name: String,
    extents: Vec<Extent>,
    size: u64,
    writable: bool,
}

impl Extents {
    /// Opens what the descriptor names, each file through the gate.
    pub fn open(
        descriptor: &Arc<dyn Storage>,
        lines: &[ExtentLine],
        context: &OpenContext<'_>,
    ) -> Result<Extents> {
        let name = descriptor.name().to_owned();
        let (mut extents, mut start) = (Vec::new(), 0u64);
        for line in lines {
            let length = line.sectors * 512;
            let file = || {
                let reference = Reference {
                    named_by: name.clone(),
                    kind: ReferenceKind::Extent,
                    target: line.file.clone(),
                    format: None,
                };
                context.gate.open(&reference, context.writable)
            };
            let kind = match line.kind.as_str() {
                "FLAT" | "VMFS" => {
                    Kind::Flat { file: file()?, offset: line.offset.saturating_mul(512) }
                }
                "SPARSE" => Kind::Sparse(Box::new(sparse::open(file()?, context.writable)?)),
                "ZERO" => Kind::Zero,
                other => {
                    let what = format!("extents of kind {other} are not supported");
                    return Err(BlockError::unsupported(&name, what));
                }
            };
            extents.push(Extent { start, length, kind });
            start += length;
        }
        Ok(Extents { name, extents, size: start, writable: context.writable })
    }

    fn at(&self, offset: GuestOffset) -> Result<&Extent> {
        let index = self.extents.partition_point(|extent| extent.start <= offset.get());
        self.extents.get(index.wrapping_sub(1)).ok_or_else(|| {
            BlockError::corrupt(&self.name, format!("no extent holds offset {offset}"))
        })
    }

    fn sparse(&self) -> impl Iterator<Item = &Blocks<sparse::Sparse>> {
        self.extents.iter().filter_map(|extent| match &extent.kind {
            Kind::Sparse(blocks) => Some(&**blocks),
            _ => None,
        })
    }
}

impl Extent {
    fn within(&self, offset: GuestOffset) -> GuestOffset {
        GuestOffset(offset.get() - self.start)
    }

    /// Moves a ticket between the disk's offsets and the extent's.
    fn ticket(ticket: Ticket, shift: impl Fn(u64) -> u64) -> Ticket {
        let start = GuestOffset(shift(ticket.region.start.get()));
        Ticket { region: Span { start, ..ticket.region }, ..ticket }
    }
}

impl Format for Extents {
    fn format_name(&self) -> &'static str {
        "vmdk"
    }

    fn size(&self) -> u64 {
        self.size
    }

    fn info(&self) -> FormatInfo {
        let cluster_size = self.sparse().filter_map(|blocks| blocks.info().cluster_size).max();
        FormatInfo { cluster_size, ..FormatInfo::default() }
    }

    fn locate(&self, offset: GuestOffset, length: u64) -> Result<Mapping<'_>> {
        let extent = self.at(offset)?;
        let within = extent.within(offset);
        let length = length.min(extent.length - within.get());
        match &extent.kind {
            Kind::Zero => Ok(Mapping { kind: MappingKind::Zero { reserved: None }, length }),
            Kind::Flat { file, offset } => {
                let offset = HostOffset(offset.saturating_add(within.get()));
                Ok(Mapping { kind: MappingKind::Data { storage: &**file, offset }, length })
            }
            Kind::Sparse(blocks) => blocks.locate(within, length),
        }
    }

    fn prepare_write(&self, offset: GuestOffset, length: u64) -> Result<WritePlan<'_>> {
        if !self.writable {
            return Err(BlockError::ReadOnly { name: self.name.clone() });
        }
        let extent = self.at(offset)?;
        let within = extent.within(offset);
        let length = length.min(extent.length - within.get());
        let plan = match &extent.kind {
            Kind::Zero => {
                let what = "a part of the disk that is always zero cannot be written";
                return Err(BlockError::unsupported(&self.name, what));
            }
            Kind::Flat { file, offset } => {
                let offset = HostOffset(offset.saturating_add(within.get()));
                return Ok(WritePlan::InPlace { storage: &**file, offset, length });
            }
            Kind::Sparse(blocks) => blocks.prepare_write(within, length)?,
        };
        Ok(match plan {
            WritePlan::Allocate { storage, offset, fill, fresh, ticket } => {
                let up = |at: u64| at + extent.start;
                let shifted = |s: &Span| Span { start: GuestOffset(up(s.start.get())), ..*s };
                let fill = fill.iter().map(shifted).collect();
                let ticket = Extent::ticket(ticket, up);
                WritePlan::Allocate { storage, offset, fill, fresh, ticket }
            }
            plan => plan,
        })
    }

    fn commit_write(&self, ticket: Ticket) -> Result<()> {
        let extent = self.at(ticket.region.start)?;
        match &extent.kind {
            Kind::Sparse(blocks) => {
                blocks.commit_write(Extent::ticket(ticket, |at| at - extent.start))
            }
            _ => Ok(()),
        }
    }

    fn abort_write(&self, ticket: Ticket) {
        if let Ok(extent) = self.at(ticket.region.start)
            && let Kind::Sparse(blocks) = &extent.kind
        {
            blocks.abort_write(Extent::ticket(ticket, |at| at - extent.start));
        }
    }

    fn discard(&self, _range: Span) -> Result<()> {
        Ok(())
    }

    fn flush(&self) -> Result<()> {
        for extent in &self.extents {
            match &extent.kind {
                Kind::Flat { file, .. } if self.writable => file.flush()?,
                Kind::Sparse(blocks) => blocks.flush()?,
                _ => {}
            }
        }
        Ok(())
    }

    fn read_special(&self, offset: GuestOffset, data: &mut [u8]) -> Result<()> {
        let extent = self.at(offset)?;
        match &extent.kind {
            Kind::Sparse(blocks) => blocks.read_special(extent.within(offset), data),
            _ => Err(BlockError::corrupt(&self.name, format!("nothing compressed at {offset}"))),
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
