//! PIC, IOAPIC, PIT, HPET, RTC, power management, debug ports.
