//! Kernel loading: bzImage, PVH, multiboot.
