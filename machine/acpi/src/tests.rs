//! Checksums, links, and what the ACPI disassembler makes of it.

use super::*;

fn board(cpus: u32) -> Description {
    let route = |slot, pin| PciRoute {
        slot,
        pin,
        gsi: 16 + u32::from(slot + pin) % 8,
        isa: 10 + u32::from(slot + pin) % 2,
    };
    Description {
        cpus,
        pm: FixedHardware {
            event: 0x600,
            control: 0x604,
            timer: 0x608,
            gpe0: 0x620,
            gpe0_length: 4,
            reset: 0xcf9,
            reset_value: 6,
            sci: 9,
            s5_sleep_type: 5,
        },
        ioapic: 0xfec0_0000,
        hpet: Some(Hpet { address: 0xfed0_0000, block_id: 0x8086_a201 }),
        pci: PciRoot {
            ecam: 0xc000_0000,
            buses: 256,
            memory: 0xd000_0000..0xfec0_0000,
            routes: (0..32).flat_map(|slot| (0..4).map(move |pin| route(slot, pin))).collect(),
        },
        nodes: Vec::new(),
    }
}

fn tables(cpus: u32) -> Tables {
    build(&board(cpus), 0xe_0000..0x10_0000).unwrap()
}

fn part(tables: &Tables, address: u64) -> &[u8] {
    &tables.parts.iter().find(|(at, _)| *at == address).unwrap().1
}

fn find<'a>(tables: &'a Tables, signature: &[u8]) -> &'a [u8] {
    &tables.parts.iter().find(|(_, bytes)| bytes.starts_with(signature)).unwrap().1
}

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

#[test]
fn every_table_has_its_length_and_sums_to_zero() {
    let tables = tables(4);
    for (_, bytes) in tables.parts.iter().filter(|(at, _)| *at != tables.rsdp) {
        assert_eq!(u32_at(bytes, 4) as usize, bytes.len());
        if !bytes.starts_with(b"FACS") {
            assert_eq!(sum(bytes), 0, "{:?}", &bytes[..4]);
        }
    }
    let rsdp = part(&tables, tables.rsdp);
    assert_eq!((sum(&rsdp[..20]), sum(rsdp), rsdp.len()), (0, 0, 36));
}

#[test]
fn the_rsdp_leads_to_every_table_by_both_ways() {
    let tables = tables(1);
    let rsdp = part(&tables, tables.rsdp);
    let rsdt = part(&tables, u32_at(rsdp, 16).into());
    let xsdt = part(&tables, u64_at(rsdp, 24));
    let by_rsdt: Vec<u64> = (36..rsdt.len()).step_by(4).map(|at| u32_at(rsdt, at).into()).collect();
    let by_xsdt: Vec<u64> = (36..xsdt.len()).step_by(8).map(|at| u64_at(xsdt, at)).collect();
    assert_eq!(by_rsdt, by_xsdt);
    let signatures: Vec<&[u8]> = by_xsdt.iter().map(|at| &part(&tables, *at)[..4]).collect();
    assert_eq!(signatures, [b"FACP", b"APIC", b"HPET", b"MCFG"]);
    let fadt = find(&tables, b"FACP");
    assert_eq!(part(&tables, u32_at(fadt, 36).into())[..4], *b"FACS");
    assert_eq!(part(&tables, u64_at(fadt, 140))[..4], *b"DSDT");
}

#[test]
fn the_fadt_says_where_the_fixed_hardware_is() {
    let tables = tables(1);
    let fadt = find(&tables, b"FACP");
    assert_eq!(fadt.len(), spec::fadt::LENGTH);
    assert_eq!((u32_at(fadt, 56), u32_at(fadt, 64), u32_at(fadt, 76)), (0x600, 0x604, 0x608));
    assert_eq!((u64_at(fadt, 120), fadt[128]), (0xcf9, 6));
    assert_eq!((u64_at(fadt, 152), u64_at(fadt, 212), u64_at(fadt, 224)), (0x600, 0x608, 0x620));
    assert_eq!(u32_at(fadt, 48), 0, "there is no SMI command port");
}

#[test]
fn the_madt_lists_every_processor_and_the_overrides() {
    let tables = tables(255);
    let madt = find(&tables, b"APIC");
    assert_eq!(madt.len(), 44 + 255 * 8 + 12 + 2 * 10 + 6);
    assert_eq!(madt[44 + 254 * 8..][..8], [0, 8, 254, 254, 1, 0, 0, 0]);
    let overrides = &madt[44 + 255 * 8 + 12..];
    assert_eq!(overrides[..10], [2, 10, 0, 0, 2, 0, 0, 0, 0, 0]);
    assert_eq!(overrides[10..20], [2, 10, 0, 9, 9, 0, 0, 0, 0x0d, 0]);
}

#[test]
fn tables_lie_apart_in_their_area_and_the_rsdp_is_first() {
    let tables = tables(255);
    assert_eq!(tables.rsdp, 0xe_0000);
    let mut ranges: Vec<(u64, u64)> =
        tables.parts.iter().map(|(at, bytes)| (*at, at + bytes.len() as u64)).collect();
    ranges.sort_unstable();
    assert!(ranges.windows(2).all(|pair| pair[0].1 <= pair[1].0));
    assert!(ranges.iter().all(|(start, end)| start % 16 == 0 && *end <= 0x10_0000));
}

#[test]
fn an_area_too_small_is_an_error_with_both_sizes() {
    let error = build(&board(255), 0xe_0000..0xe_1000).unwrap_err();
    assert!(matches!(error, AcpiError::TooLarge { room: 0x1000, needed } if needed > 0x1000));
}

#[test]
fn the_acpi_disassembler_takes_every_table() {
    testkit::check_with_iasl(&tables(2));
}
