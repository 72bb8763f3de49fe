//! The 16550 UART.
//!
//! `Uart16550::new(name, port: Box<dyn CharDevice>, irq: LineInterrupt)`; region `registers` (8 ports); one line.
