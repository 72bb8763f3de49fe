//! Tables in memory: L2 tables and refcount blocks, each one cluster.
//!
//! A table is clean, dirty (differs from the file) or being written (a flush has a copy of it). Only clean
//! tables are dropped to make room, so that a reload always sees what was last written.

use kezhan_block::{HostOffset, Result, Storage};
use std::collections::HashMap;

/// A cluster-sized table.
#[derive(Debug)]
struct Table {
    bytes: Vec<u8>,
    dirty: bool,
    writing: bool,
    used: u64,
}

/// Tables by their place in the file.
#[derive(Debug)]
pub struct Tables {
    tables: HashMap<u64, Table>,
    cluster: usize,
    limit: usize,
    uses: u64,
    dirty: usize,
}

impl Tables {
    /// An empty cache that keeps about `limit` bytes.
    pub fn new(cluster: u64, limit: usize) -> Tables {
        let cluster = cluster as usize;
        let limit = (limit / cluster).max(16);
        Tables { tables: HashMap::new(), cluster, limit, uses: 0, dirty: 0 }
    }

    /// The table at `host`, read if need be.
    ///
    /// # Errors
    /// The storage's.
    pub fn get(&mut self, file: &dyn Storage, host: u64) -> Result<&[u8]> {
        self.load(file, host)?;
        self.uses += 1;
        let uses = self.uses;
        let table = self.tables.entry(host).or_insert_with(|| Table::zero(0));
        table.used = uses;
        Ok(&table.bytes)
    }

    /// The table at `host` for changing: it becomes dirty.
    ///
    /// # Errors
    /// The storage's.
    pub fn change(&mut self, file: &dyn Storage, host: u64) -> Result<&mut [u8]> {
        self.load(file, host)?;
        self.uses += 1;
        let uses = self.uses;
        let table = self.tables.entry(host).or_insert_with(|| Table::zero(0));
        table.used = uses;
        self.dirty += usize::from(!table.dirty);
        table.dirty = true;
        Ok(&mut table.bytes)
    }

    /// A new table at `host`, dirty, with this content; what was there is forgotten.
    pub fn put(&mut self, host: u64, mut bytes: Vec<u8>) {
        bytes.resize(self.cluster, 0);
        let old = self.tables.insert(host, Table { bytes, dirty: true, writing: false, used: 0 });
        self.dirty += usize::from(!old.is_some_and(|table| table.dirty));
    }

    /// Forgets the table at `host`: its cluster is free now.
    pub fn forget(&mut self, host: u64) {
        let old = self.tables.remove(&host);
        self.dirty -= usize::from(old.is_some_and(|table| table.dirty));
    }

    /// Whether so much is dirty that it should be written.
    pub fn crowded(&self) -> bool {
        self.dirty > self.limit / 2
    }

    /// Copies of all dirty tables, which now count as being written.
    pub fn take_dirty(&mut self) -> Vec<(u64, Vec<u8>)> {
        let mut batch = Vec::with_capacity(self.dirty);
        for (host, table) in self.tables.iter_mut().filter(|(_, table)| table.dirty) {
            table.dirty = false;
            table.writing = true;
            batch.push((*host, table.bytes.clone()));
        }
        self.dirty = 0;
        batch.sort_unstable_by_key(|(host, _)| *host);
        batch
    }

    /// The batch was written, or (`ok` false) was not: then its tables are dirty again.
    pub fn written(&mut self, batch: &[(u64, Vec<u8>)], ok: bool) {
        for (host, _) in batch {
            if let Some(table) = self.tables.get_mut(host) {
                table.writing = false;
                self.dirty += usize::from(!ok && !table.dirty);
                table.dirty |= !ok;
            }
        }
    }

    fn load(&mut self, file: &dyn Storage, host: u64) -> Result<()> {
        if self.tables.contains_key(&host) {
            return Ok(());
        }
        self.make_room();
        let mut table = Table::zero(self.cluster);
        file.read_at(HostOffset(host), &mut table.bytes)?;
        self.tables.insert(host, table);
        Ok(())
    }

    /// Drops the older half of the clean tables when there are too many.
    fn make_room(&mut self) {
        if self.tables.len() < self.limit {
            return;
        }
        let clean = |table: &Table| !table.dirty && !table.writing;
        let mut uses: Vec<u64> =
            self.tables.values().filter(|table| clean(table)).map(|table| table.used).collect();
        if uses.is_empty() {
            return;
        }
        let middle = uses.len() / 2;
        let (_, median, _) = uses.select_nth_unstable(middle);
        let median = *median;
        self.tables.retain(|_, table| !clean(table) || table.used > median);
    }
}

impl Table {
    fn zero(length: usize) -> Table {
        Table { bytes: vec![0; length], dirty: false, writing: false, used: 0 }
    }
}
