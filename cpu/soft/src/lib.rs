//! The software engine: MMU, TLB, local APIC, block cache.
