//! Networks: SOCKS, user-mode stack, taps and bridges.
