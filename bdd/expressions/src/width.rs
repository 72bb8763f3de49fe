//! Full-width forms: what a Chinese or Japanese input method makes of ASCII marks and digits.

/// The full-width form of an ASCII mark or digit. Letters have one too, but nobody types words with them.
/// (Unicode, block "Halfwidth and Fullwidth Forms", U+FF01 to U+FF5E)
pub fn widen(c: char) -> Option<char> {
    let mark = c.is_ascii_punctuation() || c.is_ascii_digit();
    mark.then(|| char::from_u32(c as u32 + 0xfee0)).flatten()
}

/// The ASCII form of a full-width mark, digit or letter; other characters are themselves.
pub fn narrow(c: char) -> char {
    match c {
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(c as u32 - 0xfee0).unwrap_or(c),
        '\u{3000}' => ' ',
        other => other,
    }
}

/// A text with every full-width form made narrow.
pub fn narrow_all(text: &str) -> String {
    text.chars().map(narrow).collect()
}

/// Whether a character is of a script that is written without spaces, or one of its marks.
pub fn is_ideographic(c: char) -> bool {
    matches!(c, '\u{2e80}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{ff00}'..='\u{ffef}' | '\u{20000}'..='\u{3ffff}')
}
