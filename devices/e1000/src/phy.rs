//! The PHY: its registers, reached through MDIC (SDM §8, §13.4.13; IEEE 802.3 clause 22). Its link is 1000 Mb/s,
//! full duplex, or down.

/// MDIC: operation read, done, error; where register and PHY are.
const READ: u32 = 2 << 26;
const OPERATION: u32 = 3 << 26;
const READY: u32 = 1 << 28;
const ERROR: u32 = 1 << 30;
/// MDIC: an interrupt is wanted.
pub(crate) const INTERRUPT: u32 = 1 << 29;
/// The address of the PHY within.
const ADDRESS: u32 = 1;

/// Status: link up, and what it is able to do, negotiation done.
const LINK: u16 = 1 << 2;
const ABLE: u16 = 0x7949;
const NEGOTIATED: u16 = 1 << 5;
/// Copper-specific status: 1000 Mb/s, full duplex, resolved, link.
const RESOLVED: u16 = 0xac00;

/// What MDIC reads after `value` was written. Writes to the PHY change nothing that is told here.
pub(crate) fn access(value: u32, link: bool) -> u32 {
    let register = value >> 16 & 0x1f;
    if value >> 21 & 0x1f != ADDRESS {
        return value | READY | ERROR;
    }
    let data = if value & OPERATION == READ { read(register, link).into() } else { value & 0xffff };
    value & !0xffff & !ERROR | data | READY
}

fn read(register: u32, link: bool) -> u16 {
    let when_up = |value: u16| if link { value } else { 0 };
    match register {
        // Control: negotiation on, full duplex, 1000 Mb/s.
        0 => 0x1140,
        1 => ABLE | when_up(LINK | NEGOTIATED),
        // Identifiers of the PHY within the 82540EM.
        2 => 0x0141,
        3 => 0x0c20,
        // Advertisement, and the partner's.
        4 => 0x0de1,
        5 => when_up(0x41e1),
        // 1000BASE-T control and status.
        9 => 0x0e00,
        10 => when_up(0x3c00),
        // Copper-specific control, status, extended control.
        16 => 0x0360,
        17 => when_up(RESOLVED),
        20 => 0x0d60,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_link_is_told_where_drivers_look() {
        let status = |link| access(READ | ADDRESS << 21 | 1 << 16, link) & 0xffff;
        assert_eq!(status(true) & 0x24, 0x24);
        assert_eq!(status(false) & 0x24, 0);
        let identifier = access(READ | ADDRESS << 21 | 2 << 16, true);
        assert_eq!(identifier & (READY | 0xffff), READY | 0x0141);
    }

    #[test]
    fn another_address_is_an_error() {
        assert_ne!(access(READ | 2 << 21, true) & ERROR, 0);
    }
}
