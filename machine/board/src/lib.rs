//! Address map, slots and the one list of devices.
