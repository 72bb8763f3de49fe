//! What a conversion writes to.

use super::runs;
use crate::error::{ImageError, Result};
use crate::open::close;
use kezhan_block::{CompressedCluster, GuestOffset, Image, Span};

/// Something to write.
#[derive(Debug)]
pub enum Unit {
    /// Bytes.
    Data { at: u64, data: Vec<u8> },
    /// A compressed cluster.
    Packed { at: u64, cluster: CompressedCluster },
    /// Zeroes.
    Zeroes { at: u64, length: u64 },
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

    /// Whether the order of writing shows in the image.
    pub fn has_order(&self) -> bool {
        self.unit > 1
    }

    /// Notes a run of zeroes.
    pub fn zeroes(&self, at: u64, length: u64, units: &mut Vec<Unit>) {
        if self.sparse == 0 && !self.compress {
            units.push(Unit::Data { at, data: vec![0; length as usize] });
        } else if !self.zero {
            units.push(Unit::Zeroes { at, length });
        }
    }

    /// Cuts bytes into data and zeroes.
    pub fn cut(&self, at: u64, data: Vec<u8>, units: &mut Vec<Unit>) {
        if self.sparse == 0 {
            units.push(Unit::Data { at, data });
            return;
        }
        let runs = runs(at, &data, self.sparse);
        if let [(false, _)] = runs[..] {
            units.push(Unit::Data { at, data });
            return;
        }
        let mut done = 0;
        for (zero, length) in runs {
            let at = at + done as u64;
            if zero {
                self.zeroes(at, length as u64, units);
            } else {
                units.push(Unit::Data { at, data: data[done..done + length].to_vec() });
            }
            done += length;
        }
    }

    /// Compresses what is to be compressed: whole clusters.
    pub fn pack(&self, units: Vec<Unit>) -> Result<Vec<Unit>> {
        if !self.compress {
            return Ok(units);
        }
        let mut packed = Vec::new();
        for (at, data) in self.clusters(units, &mut packed) {
            packed.push(match self.image.format().compress(&data) {
                Some(cluster) => Unit::Packed { at, cluster },
                None => {
                    let within = (self.image.size() - at).min(self.unit) as usize;
                    Unit::Data { at, data: data[..within].to_vec() }
                }
            });
        }
        Ok(packed)
    }

    /// Data put together into whole clusters; zeroes go to `rest` as they are.
    fn clusters(&self, units: Vec<Unit>, rest: &mut Vec<Unit>) -> Vec<(u64, Vec<u8>)> {
        let mut clusters: Vec<(u64, Vec<u8>)> = Vec::new();
        for unit in units {
            let Unit::Data { at, data } = unit else {
                rest.push(unit);
                continue;
            };
            let mut done = 0;
            while done < data.len() {
                let at = at + done as u64;
                let (start, within) = (at - at % self.unit, (at % self.unit) as usize);
                let length = (self.unit as usize - within).min(data.len() - done);
                if clusters.last().is_none_or(|(last, _)| *last != start) {
                    clusters.push((start, vec![0; self.unit as usize]));
                }
                if let Some((_, cluster)) = clusters.last_mut() {
                    cluster[within..within + length].copy_from_slice(&data[done..done + length]);
                }
                done += length;
            }
        }
        clusters
    }

    /// Writes.
    pub fn write(&self, unit: Unit) -> Result<()> {
        match unit {
            Unit::Data { at, data } => self.image.write(GuestOffset(at), &data)?,
            Unit::Packed { at, cluster } => {
                self.image.write_compressed(GuestOffset(at), cluster)?;
            }
            Unit::Zeroes { at, length } => {
                self.image.write_zeroes(Span { start: GuestOffset(at), length }, true)?;
            }
        }
        Ok(())
    }

    /// Everything is written.
    pub fn close(self) -> Result<()> {
        close(self.image)
    }
}
