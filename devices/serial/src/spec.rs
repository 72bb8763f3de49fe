//! Registers of the 16550A (National Semiconductor PC16550D data sheet, 1995, §6 and §8, table II).

/// Register offsets (PC16550D §6, table I). 0 and 1 hold the divisor latch while DLAB is set.
pub mod register {
    /// Receiver buffer (read), transmitter holding (write), divisor latch low.
    pub const DATA: u64 = 0;
    /// Interrupt enable, divisor latch high.
    pub const IER: u64 = 1;
    /// Interrupt identification (read), FIFO control (write).
    pub const IIR_FCR: u64 = 2;
    /// Line control.
    pub const LCR: u64 = 3;
    /// Modem control.
    pub const MCR: u64 = 4;
    /// Line status.
    pub const LSR: u64 = 5;
    /// Modem status.
    pub const MSR: u64 = 6;
    /// Scratch.
    pub const SCR: u64 = 7;
    /// Number of ports.
    pub const COUNT: u64 = 8;
}

/// Interrupt enable register (PC16550D §8.7).
pub mod ier {
    /// Received data available, and character timeout.
    pub const RECEIVED: u8 = 1 << 0;
    /// Transmitter holding register empty.
    pub const TRANSMIT_EMPTY: u8 = 1 << 1;
    /// Receiver line status.
    pub const LINE_STATUS: u8 = 1 << 2;
    /// Modem status.
    pub const MODEM_STATUS: u8 = 1 << 3;
    /// The bits that exist.
    pub const ALL: u8 = 0x0f;
}

/// Interrupt identification register, in order of priority (PC16550D §8.6, table IV).
pub mod iir {
    /// Receiver line status.
    pub const LINE_STATUS: u8 = 0x06;
    /// The receive FIFO has reached its trigger level.
    pub const RECEIVED: u8 = 0x04;
    /// Characters wait below the trigger level and none has come for four character times.
    pub const TIMEOUT: u8 = 0x0c;
    /// Transmitter holding register empty.
    pub const TRANSMIT_EMPTY: u8 = 0x02;
    /// Modem status.
    pub const MODEM_STATUS: u8 = 0x00;
    /// Nothing pending.
    pub const NONE: u8 = 0x01;
    /// Both bits set while the FIFOs are on.
    pub const FIFO_ON: u8 = 0xc0;
}

/// FIFO control register (PC16550D §8.5).
pub mod fcr {
    /// FIFOs on.
    pub const ENABLE: u8 = 1 << 0;
    /// Empties the receive FIFO; clears itself.
    pub const CLEAR_RECEIVE: u8 = 1 << 1;
    /// Empties the transmit FIFO; clears itself.
    pub const CLEAR_TRANSMIT: u8 = 1 << 2;
    /// The bits that stay: enable, DMA mode, trigger level.
    pub const KEPT: u8 = 0xc9;
    /// Receive trigger levels by FCR bits 7:6.
    pub const TRIGGER: [usize; 4] = [1, 4, 8, 14];
}

/// Line control register (PC16550D §8.1).
pub mod lcr {
    /// Divisor latch access.
    pub const DLAB: u8 = 1 << 7;
}

/// Modem control register (PC16550D §8.8).
pub mod mcr {
    /// Data terminal ready.
    pub const DTR: u8 = 1 << 0;
    /// Request to send.
    pub const RTS: u8 = 1 << 1;
    /// Output 1.
    pub const OUT1: u8 = 1 << 2;
    /// Output 2: on a PC it connects the interrupt pin to the bus.
    pub const OUT2: u8 = 1 << 3;
    /// Loopback.
    pub const LOOP: u8 = 1 << 4;
    /// The bits that exist.
    pub const ALL: u8 = 0x1f;
}

/// Line status register (PC16550D §8.4).
pub mod lsr {
    /// Data ready.
    pub const DATA_READY: u8 = 1 << 0;
    /// Overrun error.
    pub const OVERRUN: u8 = 1 << 1;
    /// Transmitter holding register empty.
    pub const TRANSMIT_EMPTY: u8 = 1 << 5;
    /// Transmitter holding and shift registers empty.
    pub const IDLE: u8 = 1 << 6;
}

/// Modem status register: four deltas below, four levels above (PC16550D §8.9).
pub mod msr {
    /// The ring indicator's bit in the upper half; its delta (TERI) marks falling edges only.
    pub const RI: u8 = 1 << 6;
    /// Clear to send.
    pub const CTS: u8 = 1 << 4;
    /// Data set ready.
    pub const DSR: u8 = 1 << 5;
    /// Data carrier detect.
    pub const DCD: u8 = 1 << 7;
    /// The levels.
    pub const LEVELS: u8 = 0xf0;
}

/// Depth of each FIFO (PC16550D §1).
pub const FIFO_DEPTH: usize = 16;

/// The divisor of 115 200 baud is 1 at 1.8432 MHz; power-on leaves it undefined, firmware expects 9600
/// baud (PC16550D §8.2, table III).
pub const DIVISOR_9600: u16 = 12;
