//! No pattern and no document make the comparison panic. The first line is the pattern, the rest the document.

#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| {
    let (pattern, document) = text.split_once('\n').unwrap_or((text, text));
    if let (Ok(pattern), Ok(document)) = (serde_json::from_str(pattern), serde_json::from_str(document)) {
        let _ = kezhan_vocabulary::json::difference(&pattern, &document);
    }
});
