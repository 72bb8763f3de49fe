//! The keyboard controller and the devices behind it (IBM PS/2 Hardware Interface Technical Reference, 1990,
//! "Keyboard and Auxiliary Device Controller", "Keyboard", "Auxiliary Device"; IBM PC/AT Technical
//! Reference, 1985, section 4).

/// Status register, port 0x64 (PS/2 HITR, controller, "Status Register").
pub mod status {
    /// The output buffer is full.
    pub const OUTPUT_FULL: u8 = 1 << 0;
    /// The last byte written was a command.
    pub const COMMAND: u8 = 1 << 3;
    /// The keyboard is not locked.
    pub const UNLOCKED: u8 = 1 << 4;
    /// The output buffer holds a byte of the auxiliary device.
    pub const AUXILIARY: u8 = 1 << 5;
}

/// Controller command byte, RAM location 0 (PS/2 HITR, controller, "Controller Command Byte").
pub mod config {
    /// Interrupt when a keyboard byte is in the buffer.
    pub const KEYBOARD_INTERRUPT: u8 = 1 << 0;
    /// Interrupt when an auxiliary byte is in the buffer.
    pub const MOUSE_INTERRUPT: u8 = 1 << 1;
    /// System flag: the self test has passed. It shows in the status at the same place.
    pub const SYSTEM: u8 = 1 << 2;
    /// The keyboard's clock is held low.
    pub const KEYBOARD_DISABLED: u8 = 1 << 4;
    /// The auxiliary device's clock is held low.
    pub const MOUSE_DISABLED: u8 = 1 << 5;
    /// Scan codes of set 2 are translated to set 1.
    pub const TRANSLATE: u8 = 1 << 6;
    /// Power-on: devices disabled until firmware or the kernel enables them; translating.
    pub const POWER_ON: u8 = KEYBOARD_DISABLED | MOUSE_DISABLED | TRANSLATE;
}

/// Controller commands, port 0x64 (PS/2 HITR, controller, "Controller Commands").
pub mod command {
    /// Read the command byte.
    pub const READ_CONFIG: u8 = 0x20;
    /// The last of the commands that read RAM.
    pub const READ_RAM_LAST: u8 = 0x3f;
    /// Write the command byte.
    pub const WRITE_CONFIG: u8 = 0x60;
    /// The last of the commands that write RAM.
    pub const WRITE_RAM_LAST: u8 = 0x7f;
    /// Disable the auxiliary device.
    pub const DISABLE_MOUSE: u8 = 0xa7;
    /// Enable the auxiliary device.
    pub const ENABLE_MOUSE: u8 = 0xa8;
    /// Test the auxiliary device's lines.
    pub const TEST_MOUSE: u8 = 0xa9;
    /// Self test.
    pub const SELF_TEST: u8 = 0xaa;
    /// Test the keyboard's lines.
    pub const TEST_KEYBOARD: u8 = 0xab;
    /// Disable the keyboard.
    pub const DISABLE_KEYBOARD: u8 = 0xad;
    /// Enable the keyboard.
    pub const ENABLE_KEYBOARD: u8 = 0xae;
    /// Read the input port.
    pub const READ_INPUT_PORT: u8 = 0xc0;
    /// Read the output port.
    pub const READ_OUTPUT_PORT: u8 = 0xd0;
    /// Write the output port.
    pub const WRITE_OUTPUT_PORT: u8 = 0xd1;
    /// Put a byte in the output buffer as if it came from the keyboard.
    pub const LOOP_KEYBOARD: u8 = 0xd2;
    /// Put a byte in the output buffer as if it came from the auxiliary device.
    pub const LOOP_MOUSE: u8 = 0xd3;
    /// Send a byte to the auxiliary device.
    pub const WRITE_MOUSE: u8 = 0xd4;
    /// Lower the A20 gate (not IBM's; PC/AT compatible controllers).
    pub const DISABLE_A20: u8 = 0xdd;
    /// Raise the A20 gate (not IBM's; PC/AT compatible controllers).
    pub const ENABLE_A20: u8 = 0xdf;
    /// Read the test inputs.
    pub const READ_TEST_INPUTS: u8 = 0xe0;
    /// The first of the commands that pulse output port bits 3:0 low where their own bit is 0.
    pub const PULSE: u8 = 0xf0;
    /// The self test's good answer.
    pub const SELF_TEST_PASSED: u8 = 0x55;
    /// The input port: the keyboard is not locked.
    pub const INPUT_PORT_UNLOCKED: u8 = 0x80;
    /// A line test's good answer.
    pub const LINES_GOOD: u8 = 0x00;
}

/// Output port (PS/2 HITR, controller, "Output Port").
pub mod output_port {
    /// Low resets the processor.
    pub const NOT_RESET: u8 = 1 << 0;
    /// A20 gate.
    pub const A20: u8 = 1 << 1;
    /// IRQ 1.
    pub const KEYBOARD_INTERRUPT: u8 = 1 << 4;
    /// IRQ 12.
    pub const MOUSE_INTERRUPT: u8 = 1 << 5;
}

/// System control port A, 0x92 (PS/2 HITR, "System Control Port A").
pub mod system_control {
    /// A change to 1 resets the processor.
    pub const RESET: u8 = 1 << 0;
    /// A20 gate.
    pub const A20: u8 = 1 << 1;
}

/// Answers of both devices (PS/2 HITR, keyboard, "Commands to the System").
pub mod answer {
    /// Acknowledge.
    pub const ACK: u8 = 0xfa;
    /// Resend: the command is not known.
    pub const RESEND: u8 = 0xfe;
    /// The basic assurance test has passed.
    pub const TEST_PASSED: u8 = 0xaa;
}

/// Commands that both devices know (PS/2 HITR, keyboard and auxiliary device, "Commands from the System").
pub mod device_command {
    /// Read the ID.
    pub const READ_ID: u8 = 0xf2;
    /// Set typematic rate (keyboard) or sampling rate (mouse); a parameter follows.
    pub const SET_RATE: u8 = 0xf3;
    /// Enable.
    pub const ENABLE: u8 = 0xf4;
    /// Disable, and defaults.
    pub const DISABLE: u8 = 0xf5;
    /// Defaults.
    pub const DEFAULTS: u8 = 0xf6;
    /// Send the last byte again.
    pub const RESEND: u8 = 0xfe;
    /// Reset.
    pub const RESET: u8 = 0xff;
}

/// Keyboard commands and its ID (PS/2 HITR, keyboard, "Commands from the System").
pub mod keyboard {
    /// Set the LEDs; a parameter follows.
    pub const SET_LEDS: u8 = 0xed;
    /// Echo.
    pub const ECHO: u8 = 0xee;
    /// Select a scan code set; a parameter follows, 0 asks which.
    pub const SCAN_CODE_SET: u8 = 0xf0;
    /// First and last of the commands for keys of set 3, which are acknowledged.
    pub const SET_3: (u8, u8) = (0xf7, 0xfa);
    /// The ID.
    pub const ID: [u8; 2] = [0xab, 0x83];
    /// Prefix of a key's release in set 2.
    pub const BREAK: u8 = 0xf0;
    /// Prefix of the keys that the PC/AT keyboard did not have.
    pub const EXTENDED: u8 = 0xe0;
    /// Power-on typematic rate: 10.9 characters a second after half a second.
    pub const TYPEMATIC: u8 = 0x2b;
}

/// Mouse commands (PS/2 HITR, auxiliary device, "Commands from the System").
pub mod mouse {
    /// Scaling 1:1.
    pub const SCALE_1: u8 = 0xe6;
    /// Scaling 2:1.
    pub const SCALE_2: u8 = 0xe7;
    /// Set the resolution; a parameter follows.
    pub const RESOLUTION: u8 = 0xe8;
    /// Read the status: three bytes.
    pub const STATUS: u8 = 0xe9;
    /// Stream mode.
    pub const STREAM: u8 = 0xea;
    /// Read a packet.
    pub const READ: u8 = 0xeb;
    /// Leave wrap mode.
    pub const UNWRAP: u8 = 0xec;
    /// Wrap mode: echo everything.
    pub const WRAP: u8 = 0xee;
    /// Remote mode: packets only when asked for.
    pub const REMOTE: u8 = 0xf0;
    /// ID of a mouse with a wheel.
    pub const ID_WHEEL: u8 = 3;
    /// Sampling rates that, set one after the other, turn the wheel on (Microsoft, "Enhanced mouse protocol",
    /// IntelliMouse).
    pub const WHEEL_KNOCK: [u8; 3] = [200, 100, 80];
    /// Power-on rate and resolution.
    pub const DEFAULT_RATE: u8 = 100;
    /// Power-on resolution: 4 counts a millimetre.
    pub const DEFAULT_RESOLUTION: u8 = 2;
    /// Always set in a packet's first byte; X and Y signs are bits 4 and 5.
    pub const PACKET: u8 = 1 << 3;
}
