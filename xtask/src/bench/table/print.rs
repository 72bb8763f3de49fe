//! The table as text and as JSON.
//!
//! Three ratios a row: QEMU and Kezhan beside the host, and how many times as fast as QEMU Kezhan is. A group's
//! line holds the geometric means; the last one those of all rows on one CPU.

use super::figures::{Figures, Place, Row};
use super::{GROUPS, TWO_CPUS};
use crate::Outcome;
use serde_json::{Value, json};
use std::fmt::Write;

/// How many times as fast as QEMU each group is meant to be.
const WANTED: &[(&str, f64)] = &[
    ("integer", 2.5),
    ("floating", 12.0),
    ("memory", 3.5),
    ("system", 2.5),
    ("programs", 2.5),
    (ALL, 3.5),
];
const ALL: &str = "all";

/// Over, under.
const RATIOS: [(Place, Place); 3] =
    [(Place::Qemu, Place::Host), (Place::Kezhan, Place::Host), (Place::Qemu, Place::Kezhan)];

fn wanted(group: &str) -> Option<f64> {
    WANTED.iter().find(|(name, _)| *name == group).map(|(_, ratio)| *ratio)
}

/// Geometric mean of the rows that have the ratio.
fn mean(rows: &[&Row], (over, under): (Place, Place)) -> Option<f64> {
    let ratios: Vec<f64> = rows.iter().filter_map(|row| row.ratio(over, under)).collect();
    if ratios.is_empty() {
        return None;
    }
    let logarithms: f64 = ratios.iter().map(|ratio| ratio.ln()).sum();
    Some((logarithms / ratios.len() as f64).exp())
}

fn of_group<'a>(figures: &'a Figures, group: &str) -> Vec<&'a Row> {
    figures.rows.iter().filter(|row| row.group == group).collect()
}

fn on_one_cpu(figures: &Figures) -> Vec<&Row> {
    figures.rows.iter().filter(|row| row.group != TWO_CPUS).collect()
}

fn slower(figures: &Figures) -> Vec<&Row> {
    let rows = figures.rows.iter();
    rows.filter(|row| row.ratio(Place::Qemu, Place::Kezhan).is_some_and(|r| r < 1.0)).collect()
}

/// The table to read.
pub(super) fn text(figures: &Figures) -> String {
    let mut text = String::new();
    for &group in GROUPS {
        let rows = of_group(figures, group);
        if rows.is_empty() {
            continue;
        }
        let _ = writeln!(
            text,
            "{group:20}{:>12}{:>12}{:>12}  {:>10} {:>12} {:>11}",
            "host", "QEMU", "Kezhan", "QEMU/host", "Kezhan/host", "QEMU/Kezhan"
        );
        for row in &rows {
            let _ = write!(text, "  {:18}", row.name);
            for place in Place::ALL {
                let _ = write!(text, "{:>12}", row.time(place).map_or("-".to_owned(), duration));
            }
            text += &ratios(RATIOS.map(|(over, under)| row.ratio(over, under)));
            text.push('\n');
        }
        text += &mean_line(group, &rows);
    }
    if figures.rows.iter().any(|row| row.group != TWO_CPUS) {
        text += &mean_line(ALL, &on_one_cpu(figures));
    }
    text + &scaling(figures) + &slower_line(figures)
}

fn mean_line(group: &str, rows: &[&Row]) -> String {
    let label = format!("{group}, mean of {}", rows.len());
    let means = ratios(RATIOS.map(|ratio| mean(rows, ratio)));
    let goal = wanted(group).map(|ratio| format!("  wanted {ratio}")).unwrap_or_default();
    format!("{label:56}{means}{goal}\n\n")
}

fn ratios(values: [Option<f64>; 3]) -> String {
    let [a, b, c] = values.map(|value| value.map_or("-".to_owned(), |value| format!("{value:.2}")));
    format!("  {a:>10} {b:>12} {c:>11}")
}

fn duration(nanoseconds: f64) -> String {
    if nanoseconds < 1e4 {
        format!("{nanoseconds:.0} ns")
    } else if nanoseconds < 1e7 {
        format!("{:.1} µs", nanoseconds / 1e3)
    } else {
        format!("{:.1} ms", nanoseconds / 1e6)
    }
}

/// How much of the work of one CPU two do, in each place: of rows `alone` and `together`.
fn scale(figures: &Figures, place: Place) -> Option<f64> {
    let rows = of_group(figures, TWO_CPUS);
    let alone = rows.iter().find(|row| row.name == "alone")?.time(place)?;
    let together = rows.iter().find(|row| row.name == "together")?.time(place)?;
    Some(2.0 * alone / together)
}

fn scaling(figures: &Figures) -> String {
    let mut text = String::new();
    for place in Place::ALL {
        if let Some(scale) = scale(figures, place) {
            let _ = write!(text, ", {} {scale:.2}", place.name());
        }
    }
    if text.is_empty() { text } else { format!("work of two CPUs beside that of one{text}\n") }
}

fn slower_line(figures: &Figures) -> String {
    let names: Vec<String> =
        slower(figures).iter().map(|row| format!("{}/{}", row.group, row.name)).collect();
    format!("slower than QEMU: {} of {} {}\n", names.len(), figures.rows.len(), names.join(" "))
}

/// The table for programs: times in nanoseconds.
pub(super) fn json(figures: &Figures) -> Outcome<String> {
    let mut groups: Vec<Value> = Vec::new();
    for &group in GROUPS {
        let rows = of_group(figures, group);
        if !rows.is_empty() {
            groups.push(means(group, &rows));
        }
    }
    groups.push(means(ALL, &on_one_cpu(figures)));
    let scale = Place::ALL.map(|place| (place.name().to_lowercase(), json!(scale(figures, place))));
    let table = json!({
        "rows": figures.rows,
        "means": groups,
        "two_cpus": Value::Object(scale.into_iter().collect()),
    });
    Ok(serde_json::to_string_pretty(&table)?)
}

fn means(group: &str, rows: &[&Row]) -> Value {
    json!({
        "group": group,
        "rows": rows.len(),
        "qemu_by_host": mean(rows, RATIOS[0]),
        "kezhan_by_host": mean(rows, RATIOS[1]),
        "qemu_by_kezhan": mean(rows, RATIOS[2]),
        "wanted": wanted(group),
    })
}
