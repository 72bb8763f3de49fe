//! ACPI tables, built from the devices.
