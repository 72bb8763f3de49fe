//! Executable memory and native one-instruction thunks.
