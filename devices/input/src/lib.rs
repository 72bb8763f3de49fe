//! The 8042 keyboard controller.
