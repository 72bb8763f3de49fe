//! The virtual machine process.
