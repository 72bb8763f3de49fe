//! Which accesses one check covers.

use super::super::step::Rule;
use super::*;
use iced_x86::{Decoder, DecoderOptions, InstructionInfoFactory};

fn steps(bytes: &[u8], rules: &[Rule]) -> Vec<Step> {
    let mut factory = InstructionInfoFactory::new();
    Decoder::with_ip(64, bytes, 0x40_1000, DecoderOptions::NONE)
        .iter()
        .zip(rules)
        .map(|(instruction, rule)| Step::new(&instruction, *rule, &mut factory))
        .collect()
}

fn operand(step: &Step) -> Operand {
    step.operand.unwrap()
}

#[test]
fn neighbours_of_the_stack_are_one_check_through_push_and_sub() {
    // push rbp; sub rsp, 40; mov [rsp + 8], rdi; mov rax, [rsp + 16]
    let bytes = [0x55, 0x48, 0x83, 0xec, 40, 0x48, 0x89, 0x7c, 0x24, 8, 0x48, 0x8b, 0x44, 0x24, 16];
    let steps = steps(&bytes, &[Rule::Push, Rule::Copy, Rule::Copy, Rule::Copy]);
    let mut groups = Groups::of(&steps, false);
    let push = Operand::stack(-8, true);
    assert_eq!(groups.find(&push), None);
    let span = groups.span((0, 1), &push);
    assert_eq!(span, Span { below: 32, size: 40, place: Some(0) });
    for step in &steps[..2] {
        groups.pass(step);
    }
    assert_eq!(groups.find(&operand(&steps[2])), Some(0));
    assert_eq!(
        groups.find(&operand(&steps[3])),
        Some(0),
        "what was checked for writing can be read"
    );
    assert_eq!(groups.find(&Operand::stack(0, true)), None, "lies below");
    assert_eq!(groups.find(&Operand::stack(44, true)), None, "lies over its end");
}

#[test]
fn what_was_checked_for_reading_is_not_written_to() {
    // mov rax, [rbx]; mov rcx, [rbx + 8]; mov [rbx + 8], rax
    let bytes = [0x48, 0x8b, 0x03, 0x48, 0x8b, 0x4b, 8, 0x48, 0x89, 0x43, 8];
    let steps = steps(&bytes, &[Rule::Copy; 3]);
    let mut groups = Groups::of(&steps, false);
    let span = groups.span((0, 1), &operand(&steps[0]));
    assert_eq!(span, Span { below: 0, size: 16, place: Some(0) });
    assert_eq!(groups.find(&operand(&steps[1])), Some(0));
    assert_eq!(groups.find(&operand(&steps[2])), None);
    assert_eq!(groups.span((2, 1), &operand(&steps[2])).place, None);
}

#[test]
fn a_register_that_changes_otherwise_ends_it() {
    // mov rbx, [rbx]; mov rax, [rbx + 8]
    let bytes = [0x48, 0x8b, 0x1b, 0x48, 0x8b, 0x43, 8];
    let steps = steps(&bytes, &[Rule::Copy; 2]);
    let mut groups = Groups::of(&steps, false);
    assert_eq!(groups.span((0, 1), &operand(&steps[0])), Span { below: 0, size: 8, place: None });
    groups.pass(&steps[0]);
    assert_eq!(groups.find(&operand(&steps[1])), None);
}

#[test]
fn a_half_register_is_not_followed() {
    // lea ebx, [rbx + 8]; add ebx, 8; mov ebx, ebx: each cuts off the upper half
    for bytes in [&[0x8d, 0x5b, 8][..], &[0x83, 0xc3, 8], &[0x89, 0xdb]] {
        let rule = if bytes[0] == 0x8d { Rule::Address } else { Rule::Copy };
        let mut values = Values::default();
        let before = values.of[3];
        values.pass(&steps(bytes, &[rule])[0]);
        assert_ne!(values.of[3].root, before.root, "{bytes:x?}");
    }
}

#[test]
fn numbers_and_copies_are_followed() {
    // mov rbp, rsp; sub rbp, 16; lea rcx, [rbp - 32]; add rcx, 0x1000
    let bytes = [
        0x48, 0x89, 0xe5, 0x48, 0x83, 0xed, 16, 0x48, 0x8d, 0x4d, 0xe0, 0x48, 0x81, 0xc1, 0, 0x10,
        0, 0,
    ];
    let mut values = Values::default();
    for step in &steps(&bytes, &[Rule::Copy, Rule::Copy, Rule::Address, Rule::Copy]) {
        values.pass(step);
    }
    assert_eq!(values.of[1], Value { root: 4, offset: 0x1000 - 48 });
    assert_eq!(values.of[4], Value { root: 4, offset: 0 });
}

#[test]
fn apart_nothing_is_shared() {
    // mov rax, [rbx]; mov rcx, [rbx + 8]
    let steps = steps(&[0x48, 0x8b, 0x03, 0x48, 0x8b, 0x4b, 8], &[Rule::Copy; 2]);
    let mut groups = Groups::of(&steps, true);
    assert_eq!(groups.span((0, 1), &operand(&steps[0])).place, None);
}

#[test]
fn what_must_be_aligned_follows_what_is() {
    // movaps xmm0, [rdi]; movaps xmm1, [rdi + 16]; mov rax, [rdi + 32]; movaps xmm2, [rdi + 24]
    let bytes =
        [0x0f, 0x28, 0x07, 0x0f, 0x28, 0x4f, 16, 0x48, 0x8b, 0x47, 32, 0x0f, 0x28, 0x57, 24];
    let steps = steps(&bytes, &[Rule::Vector, Rule::Vector, Rule::Copy, Rule::Vector]);
    let mut groups = Groups::of(&steps, false);
    let span = groups.span((0, 1), &operand(&steps[0]));
    assert_eq!(span, Span { below: 0, size: 40, place: Some(0) });
    let found = [1, 2, 3].map(|step| groups.find(&operand(&steps[step])));
    assert_eq!(found, [Some(0), Some(0), None]);
}
