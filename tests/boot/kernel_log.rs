//! What the kernel's log of a healthy machine has none of.

/// Words that no log may have, whatever the level of their line.
const BAD: &[&str] = &[
    "WARNING:",
    "BUG:",
    "Oops",
    "Call Trace",
    "general protection",
    "unchecked MSR",
    "Marking TSC unstable",
    "TSC synchronization",
    "tsc: Fast TSC calibration failed",
    "lockup",
    "rcu: INFO",
    "hung task",
    "Firmware Bug",
    "Firmware Warn",
    "ACPI Error",
    "ACPI BIOS Error",
    "ACPI Warning",
    "Spurious",
    "nobody cared",
    "clocksource: timekeeping watchdog",
    "not responding",
    "failed to bring up",
    "Kernel panic",
];

/// Lines of `dmesg -r` that tell of trouble: those with bad words, and those of the levels 0 (emergency) to
/// 4 (warning). Loading the kernel's own certificates and the like are told at lower levels.
pub fn troubles<'a>(log: &[&'a str]) -> Vec<&'a str> {
    let level = |line: &str| {
        line.strip_prefix('<').and_then(|rest| rest.split_once('>')?.0.parse::<u32>().ok())
    };
    let grave = |line: &str| level(line).is_some_and(|level| level % 8 <= 4);
    let bad = |line: &str| BAD.iter().any(|word| line.contains(word));
    log.iter().copied().filter(|line| grave(line) || bad(line)).collect()
}
