//! What was measured: for each row its best time in each place and its checksum there.

use crate::Outcome;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Where a row ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Place {
    Host,
    Qemu,
    Kezhan,
}

impl Place {
    pub(super) const ALL: [Place; 3] = [Place::Host, Place::Qemu, Place::Kezhan];

    pub(super) fn name(self) -> &'static str {
        match self {
            Place::Host => "host",
            Place::Qemu => "QEMU",
            Place::Kezhan => "Kezhan",
        }
    }
}

/// A row in one place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Cell {
    /// Of one unit, in nanoseconds.
    pub(super) time: f64,
    pub(super) checksum: String,
}

/// A row of the table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Row {
    pub(super) group: String,
    pub(super) name: String,
    pub(super) cells: BTreeMap<Place, Cell>,
}

impl Row {
    /// In nanoseconds, where it was measured there.
    pub(super) fn time(&self, place: Place) -> Option<f64> {
        self.cells.get(&place).map(|cell| cell.time)
    }

    /// Time at `a` over time at `b`.
    pub(super) fn ratio(&self, a: Place, b: Place) -> Option<f64> {
        Some(self.time(a)? / self.time(b)?)
    }
}

/// All rows, in the order of the program.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Figures {
    pub(super) rows: Vec<Row>,
}

impl Figures {
    /// What an earlier run kept; nothing when there was none.
    pub(super) fn read(path: &Path) -> Outcome<Figures> {
        if !path.exists() {
            return Ok(Figures::default());
        }
        Ok(serde_json::from_str(&fs::read_to_string(path)?)?)
    }

    /// Keeps them, beside those of rows that were not measured now.
    pub(super) fn write(&self, path: &Path) -> Outcome {
        let mut all = Figures::read(path).unwrap_or_default();
        for row in &self.rows {
            let at = all.index(&row.group, &row.name);
            all.rows[at].cells.extend(row.cells.clone());
        }
        fs::write(path, serde_json::to_string(&all)?)?;
        Ok(())
    }

    /// The same without what was measured there.
    pub(super) fn without(mut self, place: Place) -> Figures {
        for row in &mut self.rows {
            row.cells.remove(&place);
        }
        self
    }

    /// The rows that `words` name as GROUP or GROUP/NAME and that Kezhan ran; all when there are no words.
    pub(super) fn only(&self, words: &[String]) -> Figures {
        let mut rows = Vec::new();
        for row in &self.rows {
            let path = format!("{}/{}", row.group, row.name);
            let named =
                words.is_empty() || words.iter().any(|word| *word == row.group || *word == path);
            if named && row.cells.contains_key(&Place::Kezhan) {
                rows.push(row.clone());
            }
        }
        Figures { rows }
    }

    /// Takes in what the program wrote: the better time of a row that is there already.
    ///
    /// # Errors
    /// No row at all, or the program's own complaint.
    pub(super) fn add(&mut self, place: Place, output: &str) -> Outcome {
        let mut found = false;
        for line in output.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                ["row", group, name, time, checksum, _units] => {
                    found = true;
                    let cell = Cell { time: time.parse()?, checksum: (*checksum).to_owned() };
                    self.put(place, group, name, cell)?;
                }
                ["differs", ..] | ["bench:", ..] => {
                    return Err(format!("{}: {line}", place.name()).into());
                }
                _ => {}
            }
        }
        if found {
            return Ok(());
        }
        Err(format!("{}: ran no row; it wrote: {output}", place.name()).into())
    }

    fn put(&mut self, place: Place, group: &str, name: &str, cell: Cell) -> Outcome {
        let at = self.index(group, name);
        let cells = &mut self.rows[at].cells;
        match cells.get_mut(&place) {
            Some(before) if before.checksum != cell.checksum => {
                let at = format!("{}: {group}/{name}", place.name());
                Err(format!("{at}: {} and then {}", before.checksum, cell.checksum).into())
            }
            Some(before) => {
                before.time = before.time.min(cell.time);
                Ok(())
            }
            None => {
                cells.insert(place, cell);
                Ok(())
            }
        }
    }

    /// Where the row is, made when it is not there.
    fn index(&mut self, group: &str, name: &str) -> usize {
        let found = self.rows.iter().position(|row| row.group == group && row.name == name);
        found.unwrap_or_else(|| {
            let (group, name) = (group.to_owned(), name.to_owned());
            self.rows.push(Row { group, name, cells: BTreeMap::new() });
            self.rows.len() - 1
        })
    }

    /// # Errors
    /// The rows whose checksums differ between places.
    pub(super) fn agree(&self) -> Outcome {
        let mut wrong = String::new();
        for row in &self.rows {
            let sums: Vec<&str> = row.cells.values().map(|cell| cell.checksum.as_str()).collect();
            if sums.windows(2).any(|pair| pair[0] != pair[1]) {
                let places: Vec<&str> = row.cells.keys().map(|place| place.name()).collect();
                wrong += &format!(
                    "\n  {}/{}: {} give {}",
                    row.group,
                    row.name,
                    places.join(", "),
                    sums.join(", ")
                );
            }
        }
        if wrong.is_empty() { Ok(()) } else { Err(format!("wrong results:{wrong}").into()) }
    }
}
