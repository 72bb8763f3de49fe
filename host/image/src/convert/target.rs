//! What a conversion writes to.

use super::runs;
use crate::error::{ImageError, Result};
use crate::open::close;
use crate::parallel::Piece;
use kezhan_block::{Buffer, CompressedCluster, GuestOffset, Image, Span};

/// Something to write.
#[derive(Debug)]
pub enum Unit {
    /// Bytes, from the piece's buffer.
    Data { at: u64, length: u64 },
    /// A compressed cluster.
    Packed { at: u64, cluster: CompressedCluster },
    /// Zeroes.
    Zeroes { at: u64, length: u64 },
}

/// A piece of the source, ready to be written.
#[derive(Debug)]
pub struct Prepared {
    /// Which.
    pub piece: Piece,
    /// What of it is to be written, in order.
    pub units: Vec<Unit>,
    /// Its bytes.
    pub buffer: Buffer,
}

/// The target.
#[derive(Debug)]
pub struct Target {
    /// The image.
    pub image: Image,
    /// Work is cut at multiples of this.
    pub unit: u64,
    /// Has a backing file, from which what is not written is read.
    pub backed: bool,
    zero: bool,
    compress: bool,
    sparse: u64,
}

impl Target {
    /// A target that reads as zeroes when `zero`. Zeroes shorter than `sparse` are written as data.
    pub fn new(image: Image, zero: bool, compress: bool, sparse: u64) -> Result<Target> {
        let info = image.format().info();
        if compress && !info.compresses {
            let format = image.format().format_name();
            return Err(ImageError::usage(format!(
                "-c: {format} images do not take compressed data"
            )));
        }
        let unit = info.cluster_size.unwrap_or(1);
        // Less than a unit of copy-on-write cannot be a hole.
        let sparse = match (sparse, info.subcluster_size.or(info.cluster_size)) {
            (0, _) => 0,
            (sparse, unit) => sparse.max(unit.unwrap_or(1)),
        };
        let backed = image.reference().is_some();
        Ok(Target { image, unit, backed, zero: zero && !backed, compress, sparse })
    }

    /// Whether zeroes of the source need nothing to be done.
    pub fn skips_zeroes(&self) -> bool {
        self.zero && (self.sparse != 0 || self.compress)
    }

    /// Notes a run of zeroes.
    pub fn zeroes(&self, at: u64, length: u64, units: &mut Vec<Unit>) {
        if self.sparse == 0 && !self.compress {
            units.push(Unit::Data { at, length });
        } else if !self.zero {
            units.push(Unit::Zeroes { at, length });
        }
    }

    /// Notes the data and the zeroes in `data`, which is at `at`.
    pub fn cut(&self, at: u64, data: &[u8], units: &mut Vec<Unit>) {
        if self.sparse == 0 {
            units.push(Unit::Data { at, length: data.len() as u64 });
            return;
        }
        let mut start = at;
        for (zero, length) in runs(at, data, self.sparse) {
            let length = length as u64;
            if zero {
                self.zeroes(start, length, units);
            } else {
                units.push(Unit::Data { at: start, length });
            }
            start += length;
        }
    }

    /// Compresses a cluster, when what was noted of it is more than zeroes.
    pub fn pack(&self, cluster: Piece, data: &[u8], held: Vec<Unit>, units: &mut Vec<Unit>) {
        if !held.iter().any(|unit| matches!(unit, Unit::Data { .. })) {
            units.extend(held);
            return;
        }
        let Piece { start: at, length, .. } = cluster;
        // The disk may end within its last cluster; what is compressed is always a whole one.
        let whole = if length < self.unit {
            let mut whole = data.to_vec();
            whole.resize(self.unit as usize, 0);
            self.image.format().compress(&whole)
        } else {
            self.image.format().compress(data)
        };
        units.push(match whole {
            Some(cluster) => Unit::Packed { at, cluster },
            None => Unit::Data { at, length },
        });
    }

    /// Writes a piece; gives its buffer back.
    pub fn write(&self, prepared: Prepared) -> Result<Buffer> {
        let Prepared { piece, units, buffer } = prepared;
        for unit in units {
            match unit {
                Unit::Data { at, length } => {
                    let from = (at - piece.start) as usize;
                    let data = &buffer[from..from + length as usize];
                    self.image.write(GuestOffset(at), data)?;
                }
                Unit::Packed { at, cluster } => {
                    self.image.write_compressed(GuestOffset(at), cluster)?;
                }
                Unit::Zeroes { at, length } => {
                    self.image.write_zeroes(Span { start: GuestOffset(at), length }, true)?;
                }
            }
        }
        Ok(buffer)
    }

    /// Everything is written.
    pub fn close(self) -> Result<()> {
        close(self.image)
    }
}
