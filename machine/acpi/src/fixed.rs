//! The tables of fixed form: all but the DSDT.

use crate::spec::{OEM_ID, RSDP_LENGTH, RSDP_OLD_LENGTH, facs, fadt, gas, hpet, madt};
use crate::table::{Table, checksum};
use crate::{Description, Hpet, PciRoot};

/// What the FADT points to.
pub(crate) struct Pointers {
    pub facs: u32,
    pub dsdt: u32,
}

/// Root system description pointer (ACPI 6.5 §5.2.5.3).
pub(crate) fn rsdp(rsdt: u32, xsdt: u32) -> Vec<u8> {
    let mut pointer = Table::bare();
    pointer.bytes(b"RSD PTR ").u8(0).bytes(OEM_ID).u8(2).u32(rsdt);
    pointer.u32(RSDP_LENGTH as u32).u64(xsdt.into()).zeros(4);
    let mut bytes = pointer.into_bytes();
    for (field, length) in [(8, RSDP_OLD_LENGTH), (32, RSDP_LENGTH)] {
        let sum = checksum(bytes.get(..length).unwrap_or_default());
        if let Some(field) = bytes.get_mut(field) {
            *field = sum;
        }
    }
    bytes
}

/// Root system description table (ACPI 6.5 §5.2.7).
pub(crate) fn rsdt(tables: &[u32]) -> Vec<u8> {
    let mut table = Table::new(b"RSDT", 1);
    tables.iter().for_each(|address| {
        table.u32(*address);
    });
    table.finish()
}

/// Extended system description table (ACPI 6.5 §5.2.8).
pub(crate) fn xsdt(tables: &[u32]) -> Vec<u8> {
    let mut table = Table::new(b"XSDT", 1);
    tables.iter().for_each(|address| {
        table.u64((*address).into());
    });
    table.finish()
}

/// Firmware ACPI control structure (ACPI 6.5 §5.2.10).
pub(crate) fn facs() -> Vec<u8> {
    let mut table = Table::bare();
    table.bytes(b"FACS").u32(facs::LENGTH).zeros(24).u8(facs::VERSION).zeros(31);
    table.into_bytes()
}

/// Fixed ACPI description table (ACPI 6.5 §5.2.9), in the order of its table 5.9.
pub(crate) fn fadt(board: &Description, to: &Pointers) -> Vec<u8> {
    let pm = &board.pm;
    let mut table = Table::new(b"FACP", fadt::REVISION);
    table.u32(to.facs).u32(to.dsdt).u8(0).u8(fadt::PROFILE_DESKTOP).u16(pm.sci.into());
    // SMI_CMD, ACPI_ENABLE, ACPI_DISABLE, S4BIOS_REQ, PSTATE_CNT: no SMM.
    table.zeros(8);
    // PM1a and PM1b event, PM1a and PM1b control, PM2, timer, GPE0, GPE1.
    table.u32(pm.event.into()).u32(0).u32(pm.control.into()).u32(0).u32(0);
    table.u32(pm.timer.into()).u32(pm.gpe0.into()).u32(0);
    table.u8(4).u8(2).u8(0).u8(4).u8(pm.gpe0_length).u8(0).u8(0).u8(0);
    // C-states, cache flushing, duty cycle, alarms.
    table.u16(fadt::NO_C2).u16(fadt::NO_C3).zeros(8).u8(fadt::CENTURY);
    table.u16(fadt::BOOT_ARCH).u8(0).u32(flags());
    io(&mut table, pm.reset, 8);
    // RESET_VALUE, ARM_BOOT_ARCH, minor version 5, X_FIRMWARE_CTRL (unused: the FACS is below 4 GiB), X_DSDT.
    table.u8(pm.reset_value).u16(0).u8(5).u64(0).u64(to.dsdt.into());
    io(&mut table, pm.event, 32);
    table.zeros(12);
    io(&mut table, pm.control, 16);
    table.zeros(24);
    io(&mut table, pm.timer, 32);
    io(&mut table, pm.gpe0, pm.gpe0_length.saturating_mul(8));
    // GPE1, sleep control and status (hardware-reduced only), hypervisor vendor.
    table.zeros(12 + 24 + 8);
    table.finish()
}

fn flags() -> u32 {
    fadt::WBINVD
        | fadt::PROC_C1
        | fadt::SLP_BUTTON
        | fadt::FIX_RTC
        | fadt::TMR_VAL_EXT
        | fadt::RESET_REG_SUP
}

/// A generic address structure of `bits` bits at a port (ACPI 6.5 §5.2.3.2).
fn io(table: &mut Table, port: u16, bits: u8) {
    let access = match bits {
        0..16 => gas::BYTE,
        16..32 => gas::WORD,
        _ => gas::DWORD,
    };
    table.u8(gas::IO).u8(bits).u8(0).u8(access).u64(port.into());
}

/// Multiple APIC description table (ACPI 6.5 §5.2.12).
pub(crate) fn madt(board: &Description) -> Vec<u8> {
    let mut table = Table::new(b"APIC", madt::REVISION);
    table.u32(madt::LOCAL_APIC).u32(madt::PCAT_COMPAT);
    for cpu in 0..board.cpus.min(255) as u8 {
        table.u8(madt::TYPE_LOCAL_APIC).u8(8).u8(cpu).u8(cpu).u32(madt::ENABLED);
    }
    table.u8(madt::TYPE_IOAPIC).u8(12).u8(0).u8(0).u32(board.ioapic).u32(0);
    let sci = board.pm.sci;
    let overrides = [(0, madt::TIMER_GSI, madt::CONFORMS), (sci, u32::from(sci), madt::HIGH_LEVEL)];
    for (irq, gsi, flags) in overrides {
        table.u8(madt::TYPE_OVERRIDE).u8(10).u8(0).u8(irq).u32(gsi).u16(flags);
    }
    table.u8(madt::TYPE_NMI).u8(6).u8(madt::ALL).u16(madt::CONFORMS).u8(1);
    table.finish()
}

/// HPET description table (IA-PC HPET 1.0a §3.2.4).
pub(crate) fn hpet(timer: &Hpet) -> Vec<u8> {
    let mut table = Table::new(b"HPET", hpet::REVISION);
    table.u32(timer.block_id).u8(gas::MEMORY).u8(64).u8(0).u8(0).u64(timer.address);
    table.u8(0).u16(hpet::MINIMUM_TICK).u8(0);
    table.finish()
}

/// Memory-mapped configuration space (PCI Firmware 3.3 §4.1.2).
pub(crate) fn mcfg(pci: &PciRoot) -> Vec<u8> {
    let mut table = Table::new(b"MCFG", 1);
    let last = pci.buses.saturating_sub(1).min(255) as u8;
    table.zeros(8).u64(pci.ecam).u16(0).u8(0).u8(last).zeros(4);
    table.finish()
}
