//! Page walks: from linear to guest-physical addresses (Intel SDM vol. 3A chapter 4).
//!
//! The walk reads page-table entries through [`PhysicalMemory`], checks every right for the access at
//! hand, and sets accessed and dirty bits atomically once it knows that the access is allowed. It keeps
//! nothing; translation caches are the engines'.
