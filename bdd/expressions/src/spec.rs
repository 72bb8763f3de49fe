//! Characters and words of the expression language.

/// The characters with a meaning of their own. (Cucumber Expressions, "Escaping")
pub const SPECIAL: [char; 7] = ['(', ')', '{', '}', '/', '\\', ' '];

/// Quotes that a `{string}` may stand in: opening and closing. The first two are Cucumber's, the others are what
/// Chinese and Japanese input methods produce. (Cucumber Expressions, "Parameter types")
pub const QUOTES: [(char, char); 6] =
    [('"', '"'), ('\'', '\''), ('“', '”'), ('‘', '’'), ('「', '」'), ('『', '』')];

/// Names of units of size and the power of two that each stands for. (IEC 80000-13 §4; bare letters are binary)
pub const SIZE_UNITS: [(&str, u32); 12] = [
    ("KiB", 10),
    ("MiB", 20),
    ("GiB", 30),
    ("TiB", 40),
    ("bytes", 0),
    ("byte", 0),
    ("字节", 0),
    ("K", 10),
    ("M", 20),
    ("G", 30),
    ("T", 40),
    ("B", 0),
];

/// Names of units of time and the milliseconds that each stands for; longer names stand before their beginnings.
pub const DURATION_UNITS: [(&str, f64); 24] = [
    ("milliseconds", 1.0),
    ("millisecond", 1.0),
    ("ms", 1.0),
    ("毫秒", 1.0),
    ("seconds", 1e3),
    ("second", 1e3),
    ("sec", 1e3),
    ("秒钟", 1e3),
    ("秒", 1e3),
    ("minutes", 60e3),
    ("minute", 60e3),
    ("min", 60e3),
    ("分钟", 60e3),
    ("分", 60e3),
    ("hours", 3600e3),
    ("hour", 3600e3),
    ("小时", 3600e3),
    ("days", 86400e3),
    ("day", 86400e3),
    ("天", 86400e3),
    ("s", 1e3),
    ("m", 60e3),
    ("h", 3600e3),
    ("d", 86400e3),
];
