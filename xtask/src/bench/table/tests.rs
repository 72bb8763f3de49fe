use super::figures::{Figures, Place};
use super::print;

fn measured() -> Figures {
    let mut figures = Figures::default();
    figures.add(Place::Host, "row integer sort 100.0 0a 7\nrow memory copy 10.0 0b 7\n").unwrap();
    figures
        .add(Place::Qemu, "noise\r\nrow integer sort 400.0 0a 7\r\nrow memory copy 90.0 0b 7\r\n")
        .unwrap();
    figures
        .add(Place::Kezhan, "row integer sort 200.0 0a 7\nrow memory copy 180.0 0b 7\n")
        .unwrap();
    figures
}

#[test]
fn the_better_of_two_rounds_counts() {
    let mut figures = measured();
    figures.add(Place::Kezhan, "row integer sort 150.0 0a 9").unwrap();
    figures.add(Place::Kezhan, "row integer sort 170.0 0a 9").unwrap();
    assert_eq!(figures.rows[0].time(Place::Kezhan), Some(150.0));
}

#[test]
fn a_checksum_that_differs_is_an_error() {
    let mut figures = measured();
    figures.agree().unwrap();
    assert!(figures.add(Place::Qemu, "row integer sort 1.0 0c 1").is_err());
    figures.add(Place::Qemu, "row system fork 1.0 01 1").unwrap();
    figures.add(Place::Kezhan, "row system fork 1.0 02 1").unwrap();
    let error = figures.agree().unwrap_err().to_string();
    assert!(error.contains("system/fork: QEMU, Kezhan give 01, 02"), "{error}");
}

#[test]
fn a_guest_that_ran_nothing_is_an_error() {
    let error = Figures::default().add(Place::Kezhan, "Kernel panic").unwrap_err();
    assert!(error.to_string().contains("Kernel panic"));
}

#[test]
fn means_are_geometric_and_slower_rows_are_named() {
    let text = print::text(&measured());
    // 400/200 and 90/180: 2 and 0.5.
    let all = text.lines().find(|line| line.starts_with("all,")).unwrap();
    assert!(all.contains(" 1.00  wanted 3.5"), "{all}");
    assert!(text.ends_with("slower than QEMU: 1 of 2 memory/copy\n"), "{text}");
}

#[test]
fn rows_are_chosen_by_group_or_by_name() {
    let figures = measured();
    assert_eq!(figures.only(&["memory".to_owned()]).rows.len(), 1);
    assert_eq!(figures.only(&["integer/sort".to_owned()]).rows.len(), 1);
    assert_eq!(figures.only(&["integer/sor".to_owned()]).rows.len(), 0);
    assert_eq!(figures.only(&[]).rows.len(), 2);
}
