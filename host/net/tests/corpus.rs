//! The corpus of the fuzz target `frames`, replayed, and what a few changed bytes make of it.

#[path = "../fuzz/src/lib.rs"]
mod frames;

use std::fs;
use std::path::Path;

fn corpus() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/frames");
    let mut paths: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

#[test]
fn the_corpus_is_carried_without_a_panic() {
    let corpus = corpus();
    assert!(corpus.len() >= 8);
    corpus.iter().for_each(|input| frames::run(input));
    frames::run(&corpus.concat());
}

#[test]
fn changed_inputs_are_carried_without_a_panic() {
    let corpus = corpus();
    let mut seed = 7_u64;
    let mut random = move || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize
    };
    for _ in 0..5_000 {
        let mut input = corpus[random() % corpus.len()].clone();
        input.extend(&corpus[random() % corpus.len()]);
        for _ in 0..1 + random() % 4 {
            let at = random() % input.len();
            input[at] = random() as u8;
        }
        frames::run(&input);
    }
}
