//! CPU models: from `--cpu` to the answers of CPUID.
