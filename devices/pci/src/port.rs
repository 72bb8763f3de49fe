//! A PCI Express root port with a slot in which functions come and go (PCI Express Base 4.0 §6.7, §7.5.3).
//!
//! ```text
//!   insert: present ─► presence and button ─► INTx ─► guest: power on ─► link up ─► it scans the bus behind
//!   press:  attention button ─► INTx ─► guest: lets go of the function, power off ─► ejected
//! ```
//! The slot has an attention button, a power controller and a power indicator. The guest is master of the
//! power: what is in the slot answers only while it is on, and leaves only after the guest has switched it off
//! because the button was pressed. There are no "command completed" events: commands are done at once.
//!
//! The function behind is not the port's business: who owns both asks [`PciFunction::bus_behind`] whether it may be
//! reached, and [`SlotHandle::take_ejected`] whether it is to be taken out.
//!
//! # What was rejected
//! Surprise removal (a disk that vanishes under a file system loses what was not flushed); hot-plug by ACPI methods
//! (a second mechanism for what every guest of PCI Express knows); windows that forbid a function addresses
//! outside of them (nothing is gained: the guest that sets the window sets the address).

use crate::spec::express as bits;
use crate::{ConfigSpace, ConfigState, Identity, PciFunction};
use kezhan_device::{Access, Device, LineInterrupt, RestoreError, SavedState};
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

const KIND: &str = "pci-root-port";

/// Where the capability is: the first after the header.
const AT: u16 = 0x40;

/// Saved state, version 1.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PortState {
    config: ConfigState,
    control: u16,
    events: u16,
    present: bool,
    leaving: bool,
}

type Wake = Arc<dyn Fn() + Send + Sync>;

/// What the port tells its owner.
#[derive(Default)]
struct Told {
    ejected: AtomicBool,
    wake: Mutex<Option<Wake>>,
}

/// The owner's view of a slot.
#[derive(Clone, Default)]
pub struct SlotHandle(Arc<Told>);

impl SlotHandle {
    /// Whom to wake when something is ejected.
    pub fn set_waker(&self, wake: Wake) {
        *self.0.wake.lock().unwrap_or_else(PoisonError::into_inner) = Some(wake);
    }

    /// Whether the guest has let go of what is in the slot since the last call: it is to be taken out.
    pub fn take_ejected(&self) -> bool {
        self.0.ejected.swap(false, Ordering::SeqCst)
    }

    fn eject(&self) {
        self.0.ejected.store(true, Ordering::SeqCst);
        let wake = self.0.wake.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(wake) = wake {
            wake();
        }
    }
}

impl std::fmt::Debug for SlotHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SlotHandle")
    }
}

/// The port. See the module.
#[derive(Debug)]
pub struct RootPort {
    name: String,
    config: ConfigSpace,
    /// Slot control (§7.5.3.10).
    control: u16,
    /// Events of slot status (§7.5.3.11), cleared by the guest.
    events: u16,
    present: bool,
    /// The button was pressed and the power has not been switched off since.
    leaving: bool,
    intx: LineInterrupt,
    handle: SlotHandle,
}

impl RootPort {
    /// An empty port called `name`; guests call its slot `number`.
    pub fn new(name: &str, number: u16) -> RootPort {
        let identity = Identity {
            vendor: bits::VENDOR,
            device: bits::DEVICE,
            class: bits::CLASS,
            ..Identity::default()
        };
        let mut config = ConfigSpace::bridge(identity).with_interrupt_pin(1);
        let mut body = [0; bits::LENGTH];
        let mut put = |at: usize, value: &[u8]| body[at..at + value.len()].copy_from_slice(value);
        put(0, &bits::CAPABILITIES.to_le_bytes());
        put(0xa, &bits::LINK_CAPABILITIES.to_le_bytes());
        put(0x10, &bits::LINK_STATUS.to_le_bytes());
        put(0x12, &(bits::SLOT_CAPABILITIES | u32::from(number) << 19).to_le_bytes());
        // The slot's registers that move are kept here; the space has what is fixed.
        config.add_capability(bits::CAPABILITY, &body, &[]);
        RootPort {
            name: name.to_owned(),
            config,
            control: bits::POWER_ON_CONTROL,
            events: 0,
            present: false,
            leaving: false,
            intx: LineInterrupt::unconnected(name),
            handle: SlotHandle::default(),
        }
    }

    /// What tells of ejections.
    pub fn handle(&self) -> SlotHandle {
        self.handle.clone()
    }

    /// Something is in the slot now. A guest that knows of the button waits for it, not for the presence.
    pub fn insert(&mut self) {
        self.change(|port| {
            port.present = true;
            port.events |= bits::BUTTON_PRESSED;
        });
    }

    /// The slot is empty now.
    pub fn remove(&mut self) {
        self.change(|port| (port.present, port.leaving) = (false, false));
    }

    /// Presses the attention button: the guest is asked to let go of what is in the slot.
    pub fn press_button(&mut self) {
        self.leaving = true;
        self.events |= bits::BUTTON_PRESSED;
        self.drive();
    }

    fn link_is_up(&self) -> bool {
        self.present && self.control & bits::POWER_OFF == 0
    }

    /// Does `change`, and notes the events that follow.
    fn change(&mut self, change: impl FnOnce(&mut RootPort)) {
        let before = (self.present, self.link_is_up());
        change(self);
        if self.present != before.0 {
            self.events |= bits::PRESENCE_CHANGED;
        }
        if self.link_is_up() != before.1 {
            self.events |= bits::LINK_CHANGED;
        }
        self.drive();
    }

    /// INTA# is high while an event is pending that the guest wants (§6.7.3.4).
    fn drive(&mut self) {
        let wanted = [
            (bits::BUTTON_PRESSED, bits::BUTTON_ENABLE),
            (bits::PRESENCE_CHANGED, bits::PRESENCE_ENABLE),
            (bits::LINK_CHANGED, bits::LINK_ENABLE),
        ];
        let pending = wanted
            .iter()
            .any(|(event, enable)| self.events & event != 0 && self.control & enable != 0);
        let level = self.config.set_interrupt(pending && self.control & bits::INTERRUPT != 0);
        self.intx.set(level);
    }

    /// The registers that move, at their offsets in configuration space.
    fn moving(&self) -> [(u16, u16); 3] {
        let link = bits::LINK_STATUS | if self.link_is_up() { bits::LINK_UP } else { 0 };
        let status = self.events | if self.present { bits::PRESENT } else { 0 };
        [
            (AT + bits::LINK_STATUS_AT, link),
            (AT + bits::SLOT_CONTROL_AT, self.control),
            (AT + bits::SLOT_STATUS_AT, status),
        ]
    }

    fn write_byte(&mut self, offset: u16, value: u8) {
        let control = AT + bits::SLOT_CONTROL_AT;
        let status = AT + bits::SLOT_STATUS_AT;
        if (control..control + 2).contains(&offset) {
            let shift = 8 * (offset - control);
            let new = self.control & !(0xff << shift) | u16::from(value) << shift;
            self.set_control(new & bits::CONTROL_WRITABLE);
        } else if offset == status {
            // Cleared by one, and all events are in the lower byte but the link's.
            self.events &= !(u16::from(value) & bits::EVENTS);
        } else if offset == status + 1 {
            self.events &= !(u16::from(value) << 8 & bits::EVENTS);
        }
    }

    fn set_control(&mut self, new: u16) {
        let switched_off = new & !self.control & bits::POWER_OFF != 0;
        self.change(|port| port.control = new);
        if switched_off && self.leaving {
            self.leaving = false;
            self.handle.eject();
        }
    }
}

impl Device for RootPort {
    fn name(&self) -> &str {
        &self.name
    }

    /// What is in the slot stays there.
    fn reset(&mut self) {
        self.config.reset();
        (self.control, self.events, self.leaving) = (bits::POWER_ON_CONTROL, 0, false);
        self.intx.set(false);
    }

    fn save(&self) -> SavedState {
        let (control, events) = (self.control, self.events);
        let (present, leaving) = (self.present, self.leaving);
        let config = self.config.save();
        SavedState::new(KIND, 1, &PortState { config, control, events, present, leaving })
    }

    fn restore(&mut self, state: &SavedState) -> Result<(), RestoreError> {
        let state: PortState = state.open(KIND, 1)?;
        let bits_fit =
            state.control & !bits::CONTROL_WRITABLE == 0 && state.events & !bits::EVENTS == 0;
        if state.present != self.present || !bits_fit {
            return Err(RestoreError::invalid(KIND, "its slot holds something else"));
        }
        self.config.restore(&state.config)?;
        (self.control, self.events, self.leaving) = (state.control, state.events, state.leaving);
        self.drive();
        Ok(())
    }
}

impl PciFunction for RootPort {
    fn config(&self) -> &ConfigSpace {
        &self.config
    }

    fn config_mut(&mut self) -> &mut ConfigSpace {
        &mut self.config
    }

    fn connect_interrupt(&mut self, line: LineInterrupt) {
        self.intx = line;
    }

    fn bus_behind(&self) -> Option<u8> {
        let mut bus = [0];
        self.config.read(bits::SECONDARY_BUS, &mut bus);
        (self.link_is_up() && bus != [0]).then_some(bus[0])
    }

    fn read_config(&mut self, offset: u16, data: &mut [u8]) -> Access {
        self.config.read(offset, data);
        for (at, value) in self.moving() {
            for (place, byte) in (at..).zip(value.to_le_bytes()) {
                if let Some(byte_read) =
                    place.checked_sub(offset).and_then(|index| data.get_mut(usize::from(index)))
                {
                    *byte_read = byte;
                }
            }
        }
        Access::Done
    }

    fn write_config(&mut self, offset: u16, data: &[u8]) -> Access {
        self.config.write(offset, data);
        // A word of control goes into effect whole: its upper byte has the power.
        for (at, byte) in (offset..).zip(data) {
            self.write_byte(at, *byte);
        }
        self.drive();
        Access::Done
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kezhan_device::testkit::{LineLog, check_contract};

    const CONTROL: u16 = AT + bits::SLOT_CONTROL_AT;
    const STATUS: u16 = AT + bits::SLOT_STATUS_AT;

    fn word(port: &mut RootPort, at: u16) -> u16 {
        let mut data = [0; 2];
        port.read_config(at, &mut data);
        u16::from_le_bytes(data)
    }

    fn set(port: &mut RootPort, at: u16, value: u16) {
        port.write_config(at, &value.to_le_bytes());
    }

    fn port() -> (RootPort, Arc<LineLog>) {
        let log = Arc::new(LineLog::default());
        let mut port = RootPort::new("port0", 1);
        port.connect_interrupt(LineInterrupt::new("port0.intx", vec![(log.clone(), 0)]));
        set(&mut port, 0x18, 0x0100);
        (port, log)
    }

    #[test]
    fn what_is_inserted_is_told_and_answers_while_the_power_is_on() {
        let (mut port, _log) = port();
        let off = bits::POWER_OFF | bits::PRESENCE_ENABLE | bits::INTERRUPT;
        set(&mut port, CONTROL, off);
        assert!(!port.intx.is_high());
        port.insert();
        assert!(port.intx.is_high() && port.bus_behind().is_none());
        assert_eq!(
            word(&mut port, STATUS) & !bits::BUTTON_PRESSED,
            bits::PRESENT | bits::PRESENCE_CHANGED
        );
        set(&mut port, STATUS, bits::PRESENCE_CHANGED | bits::BUTTON_PRESSED);
        assert!(!port.intx.is_high());
        set(&mut port, CONTROL, off & !bits::POWER_OFF);
        assert_eq!(port.bus_behind(), Some(1));
        assert_ne!(word(&mut port, AT + bits::LINK_STATUS_AT) & bits::LINK_UP, 0);
        assert_ne!(word(&mut port, STATUS) & bits::LINK_CHANGED, 0);
    }

    #[test]
    fn it_is_ejected_only_when_the_guest_switches_off_what_it_was_asked_to_let_go() {
        let (mut port, _log) = port();
        port.insert();
        let on = bits::BUTTON_ENABLE | bits::INTERRUPT;
        set(&mut port, CONTROL, on | bits::POWER_OFF);
        assert!(!port.handle().take_ejected(), "nobody has asked");
        set(&mut port, CONTROL, on);
        port.press_button();
        assert!(port.intx.is_high() && !port.handle().take_ejected());
        set(&mut port, STATUS, bits::BUTTON_PRESSED);
        set(&mut port, CONTROL, on | bits::POWER_OFF);
        assert!(port.handle().take_ejected() && !port.handle().take_ejected());
        port.remove();
        assert_eq!(word(&mut port, STATUS) & bits::PRESENT, 0);
    }

    #[test]
    fn a_port_keeps_the_device_contract() {
        check_contract(&mut RootPort::new("port0", 1));
        let (mut port, _log) = port();
        port.insert();
        let saved = port.save();
        assert!(RootPort::new("port0", 1).restore(&saved).is_err(), "its slot is empty");
    }
}
