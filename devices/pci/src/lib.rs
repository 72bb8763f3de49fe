//! PCI: host bridge, configuration space.
