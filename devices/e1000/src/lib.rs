//! e1000: Intel's 82540EM, a gigabit network card that guests without virtio know.
//!
//! ```text
//!   BAR 0 registers ─┬─► EEPROM, PHY                     what the card is, and its link
//!                    ├─► TDT written ─► transmit ─► Nic::transmit
//!                    └─► RDT written, poll ─► receive ◄── Nic::receive
//!   BAR 2 ports: address and data of a register          causes ─► ICR & IMS ─► INTA#
//! ```
//! One receive ring, one transmit ring, descriptors of every kind, checksums and cutting on transmit, filters,
//! VLAN tags. The chapters are those of Intel's manual, which `spec` names.
//!
//! # Where work is done
//! As in virtio-net: a written tail is served on the vCPU's thread, what comes in where the chassis polls; the
//! port never waits. A call serves a share; what is left follows by the deadline.
//!
//! # Left out
//! Interrupt moderation (a batch raises one interrupt anyway), wake-up on LAN, flow control, MSI (the 82540EM
//! has it; drivers of this card use INTx#), and every other member of the family.

mod eeprom;
mod filter;
mod offload;
mod phy;
mod receive;
mod registers;
pub mod spec;
#[cfg(test)]
mod tests;
mod transmit;

use eeprom::Pins;
use kezhan_device::{
    Access, Device, GuestMemory, LineInterrupt, Nanoseconds, Region, RegionIndex, RestoreError,
    SavedState,
};
use kezhan_pci::{Bar, BarKind, ConfigSpace, ConfigState, Identity, PciFunction};
use kezhan_ports::nic::{Nic, Offloads};
use registers::{Registers, RegistersState};
use serde::{Deserialize, Serialize};
use spec::{cause, control, pci, register, status};
use std::sync::Arc;
use transmit::Transmitter;

const REGISTERS: usize = 0;
const PORTS: usize = 1;

/// Saved state, version 1.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    config: ConfigState,
    registers: RegistersState,
    pins: Pins,
    eerd: u32,
    mdic: u32,
    port: u32,
    transmitter: Transmitter,
}

/// The card. See the crate.
pub struct E1000 {
    name: String,
    config: ConfigSpace,
    memory: Arc<GuestMemory>,
    nic: Box<dyn Nic>,
    line: LineInterrupt,
    mac: [u8; 6],
    words: [u16; 64],
    registers: Registers,
    pins: Pins,
    eerd: u32,
    mdic: u32,
    /// The register that the data port leads to.
    port: u32,
    transmitter: Transmitter,
    buffer: Vec<u8>,
    link: bool,
    unfinished: bool,
}

impl E1000 {
    /// The card `name` with the Ethernet address `mac` on a port, whose waker is set; its buffers lie in
    /// `memory`.
    #[must_use]
    pub fn new(name: &str, nic: Box<dyn Nic>, mac: [u8; 6], memory: Arc<GuestMemory>) -> E1000 {
        let bar = |region, kind, size| Bar { region, kind, size };
        let config = ConfigSpace::endpoint(Identity {
            vendor: pci::VENDOR,
            device: pci::DEVICE,
            class: pci::CLASS,
            revision: pci::REVISION,
            subsystem_vendor: pci::VENDOR,
            subsystem: pci::DEVICE,
        })
        .with_bar(0, bar("registers", BarKind::Memory32, pci::MEMORY))
        .with_bar(2, bar("ports", BarKind::Port, pci::PORTS))
        .with_interrupt_pin(1);
        let link = nic.link_up();
        E1000 {
            name: name.to_owned(),
            config,
            memory,
            nic,
            line: LineInterrupt::unconnected(name),
            mac,
            words: eeprom::words(mac),
            registers: Registers::power_on(mac),
            pins: Pins::default(),
            eerd: 0,
            mdic: 0,
            port: 0,
            transmitter: Transmitter::default(),
            buffer: Vec::new(),
            link,
            unfinished: false,
        }
    }

    /// Everything but the configuration space back to its power-on state (SDM §14.9: a global reset).
    fn reset_card(&mut self) {
        self.registers = Registers::power_on(self.mac);
        self.transmitter = Transmitter::default();
        (self.pins, self.eerd, self.mdic) = (Pins::default(), 0, 0);
        self.unfinished = false;
        self.nic.accept(Offloads::default());
        self.drive();
    }

    /// The level of INTA#: an enabled cause is there.
    fn drive(&mut self) {
        let causes = self.registers.get(register::ICR) & self.registers.get(register::IMS);
        let level = self.config.set_interrupt(causes != 0);
        self.line.set(level);
    }

    fn raise(&mut self, causes: u32) {
        let all = self.registers.get(register::ICR) | causes & cause::ALL;
        self.registers.set(register::ICR, all);
        self.drive();
    }

    fn read_register(&mut self, offset: u32) -> u32 {
        match offset {
            register::STATUS => status::FIXED | if self.link { status::LINK } else { 0 },
            register::EECD => self.pins.read(),
            register::EERD => self.eerd,
            register::MDIC => self.mdic,
            register::ICR => {
                let causes = self.registers.get(register::ICR);
                self.registers.set(register::ICR, 0);
                self.drive();
                causes
            }
            register::STATISTICS..register::STATISTICS_END => {
                let count = self.registers.get(offset);
                self.registers.set(offset, 0);
                count
            }
            // Write-only (SDM §13.4.19, §13.4.21).
            register::ICS | register::IMC => 0,
            _ => self.registers.get(offset),
        }
    }

    fn write_register(&mut self, offset: u32, value: u32) {
        match offset {
            register::CTRL if value & control::RESET != 0 => return self.reset_card(),
            register::CTRL => self.registers.set(offset, value & !control::PHY_RESET),
            register::EECD => self.pins.drive(value, &self.words),
            register::EERD => self.eerd = eeprom::read_register(value, &self.words),
            register::MDIC => {
                self.mdic = phy::access(value, self.link);
                let causes = if value & phy::INTERRUPT != 0 { cause::MDI } else { 0 };
                self.raise(causes);
            }
            register::ICR => {
                self.registers.set(offset, self.registers.get(offset) & !value);
                self.drive();
            }
            register::ICS => self.raise(value),
            register::IMS => {
                self.registers.set(offset, self.registers.get(offset) | value & cause::ALL);
                self.drive();
            }
            register::IMC => {
                self.registers.set(register::IMS, self.registers.get(register::IMS) & !value);
                self.drive();
            }
            register::STATUS => {}
            _ => self.registers.set(offset, value),
        }
        match offset {
            register::TDT | register::TCTL => self.transmit(),
            register::RDT | register::RCTL => self.receive(),
            _ => {}
        }
    }

    fn transmit(&mut self) {
        let sent = self.transmitter.run(&mut *self.nic, &mut self.registers, &self.memory);
        self.unfinished |= sent.unfinished;
        self.raise(sent.causes);
    }

    fn receive(&mut self) {
        let (nic, registers) = (&mut *self.nic, &mut self.registers);
        let received = receive::run(nic, registers, &self.memory, &mut self.buffer);
        self.unfinished |= received.unfinished;
        self.raise(received.causes);
    }

    fn serve(&mut self) {
        self.unfinished = false;
        self.transmit();
        self.receive();
    }

    /// IOADDR and IODATA (SDM §4.2).
    fn read_port(&mut self, offset: u64) -> u32 {
        match offset {
            0 => self.port,
            4 => self.read_register(self.port),
            _ => 0,
        }
    }

    fn write_port(&mut self, offset: u64, value: u32) {
        match offset {
            0 => self.port = value & 0x1_fffc,
            4 => self.write_register(self.port, value),
            _ => {}
        }
    }
}

impl Device for E1000 {
    fn name(&self) -> &str {
        &self.name
    }

    fn regions(&self) -> Vec<Region> {
        self.config.regions()
    }

    /// Registers are read whole; a smaller access gives its part (SDM §13.1 asks for whole ones).
    fn read(&mut self, region: RegionIndex, offset: u64, data: &mut [u8]) -> Access {
        let within = (offset & 3) as usize;
        if within + data.len() > 4 {
            return Access::BadSize;
        }
        let value = match region.0 {
            REGISTERS => self.read_register((offset & !3) as u32),
            PORTS => self.read_port(offset & !3),
            _ => return Access::BadRegister,
        };
        for (byte, value) in data.iter_mut().zip(value.to_le_bytes().iter().skip(within)) {
            *byte = *value;
        }
        Access::Done
    }

    fn write(&mut self, region: RegionIndex, offset: u64, data: &[u8]) -> Access {
        let Ok(value) = <[u8; 4]>::try_from(data).map(u32::from_le_bytes) else {
            return Access::BadSize;
        };
        if !offset.is_multiple_of(4) {
            return Access::Unaligned;
        }
        match region.0 {
            REGISTERS => self.write_register(offset as u32, value),
            PORTS => self.write_port(offset, value),
            _ => return Access::BadRegister,
        }
        Access::Done
    }

    /// At once, while work is left over.
    fn deadline(&self) -> Option<Nanoseconds> {
        self.unfinished.then_some(0)
    }

    fn wake(&mut self, _now: Nanoseconds) {
        self.serve();
    }

    fn poll(&mut self) {
        let link = self.nic.link_up();
        if std::mem::replace(&mut self.link, link) != link {
            self.raise(cause::LINK);
        }
        self.serve();
    }

    fn resume(&mut self) {
        self.poll();
    }

    fn reset(&mut self) {
        self.config.reset();
        self.port = 0;
        self.reset_card();
    }

    fn save(&self) -> SavedState {
        let state = State {
            config: self.config.save(),
            registers: self.registers.save(),
            pins: self.pins.clone(),
            eerd: self.eerd,
            mdic: self.mdic,
            port: self.port,
            transmitter: self.transmitter.clone(),
        };
        SavedState::new("e1000", 1, &state)
    }

    fn restore(&mut self, state: &SavedState) -> Result<(), RestoreError> {
        let state: State = state.open("e1000", 1)?;
        let invalid = |reason| RestoreError::invalid("e1000", reason);
        let registers = Registers::restored(&state.registers);
        let registers = registers.ok_or_else(|| invalid("it has registers that there are not"))?;
        if !state.transmitter.is_bounded() {
            return Err(invalid("its packet is longer than a driver can make it"));
        }
        self.reset();
        self.config.restore(&state.config)?;
        (self.registers, self.pins) = (registers, state.pins);
        (self.eerd, self.mdic, self.port) = (state.eerd, state.mdic, state.port);
        self.transmitter = state.transmitter;
        self.drive();
        Ok(())
    }
}

impl PciFunction for E1000 {
    fn config(&self) -> &ConfigSpace {
        &self.config
    }

    fn config_mut(&mut self) -> &mut ConfigSpace {
        &mut self.config
    }

    fn connect_interrupt(&mut self, line: LineInterrupt) {
        self.line = line;
    }

    fn write_config(&mut self, offset: u16, data: &[u8]) -> Access {
        self.config.write(offset, data);
        self.line.set(self.config.interrupt_level());
        Access::Done
    }
}

impl std::fmt::Debug for E1000 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "E1000({}, link {})", self.name, self.link)
    }
}
