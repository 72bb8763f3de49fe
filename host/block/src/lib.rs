//! Disk images: formats, backing chains, the I/O engine.
