use super::*;
use proptest::prelude::*;
use std::time::Duration;

fn values(expression: &str, text: &str) -> Option<Vec<Value>> {
    let expression = Expression::parse(expression, &ParameterTypes::default()).unwrap();
    let arguments = expression.matches(text)?;
    Some(arguments.into_iter().map(|argument| argument.value.unwrap()).collect())
}

fn fault(expression: &str) -> String {
    Expression::parse(expression, &ParameterTypes::default()).unwrap_err().to_string()
}

fn text(value: &str) -> Value {
    Value::Text(value.to_owned())
}

#[test]
fn a_sentence_gives_typed_arguments() {
    assert_eq!(
        values(
            "a machine with {int} vCPU(s) and {size} of memory",
            "a machine with 2 vCPUs and 512 MiB of memory"
        ),
        Some(vec![Value::Int(2), Value::Size(512 << 20)])
    );
    assert_eq!(
        values("I wait/stay {duration}", "I stay 1.5 minutes"),
        Some(vec![Value::Duration(Duration::from_secs(90))])
    );
    assert_eq!(
        values("the machine is {state}", "the machine is paused"),
        Some(vec![Value::State(MachineState::Paused)])
    );
    assert_eq!(
        values("I {method} {pointer}", "I GET /v1/machines"),
        Some(vec![text("GET"), text("/v1/machines")])
    );
    assert_eq!(values("it costs {float}", "it costs -12.5"), Some(vec![Value::Float(-12.5)]));
}

#[test]
fn chinese_sentences_take_full_width_forms_and_free_spaces() {
    let expression = "一台有 {int} 个虚拟处理器和 {size} 内存的机器,名为 {string}";
    let expected = Some(vec![Value::Int(2), Value::Size(1 << 30), text("甲")]);
    assert_eq!(
        values(expression, "一台有 2 个虚拟处理器和 1 GiB 内存的机器,名为 \"甲\""),
        expected
    );
    assert_eq!(values(expression, "一台有２个虚拟处理器和1GiB内存的机器，名为“甲”"), expected);
    assert_eq!(values(expression, "一台有 2个虚拟处理器和 １ GiB内存的机器，名为「甲」"), expected);
}

#[test]
fn a_quoted_text_may_hold_quotes_of_other_kinds_and_escaped_ones() {
    assert_eq!(values("say {string}", r#"say "it's \"so\"""#), Some(vec![text("it's \"so\"")]));
    assert_eq!(values("say {string}", r"say 'a\nb'"), Some(vec![text(r"a\nb")]));
    assert_eq!(values("say {string}", "say two"), None);
}

#[test]
fn optional_and_alternative_text_match_as_in_cucumber() {
    assert_eq!(values("the cat/dog(s) sleep(s)", "the dogs sleep"), Some(vec![]));
    assert_eq!(values("the cat/dog(s) sleep(s)", "the cat sleeps"), Some(vec![]));
    assert_eq!(values("the cat/dog(s) sleep(s)", "the bird sleeps"), None);
    assert_eq!(values(r"a\/b \(c\) \{d}", "a/b (c) {d}"), Some(vec![]));
    assert_eq!(values("three( brown/black) mice", "three brown/black mice"), Some(vec![]));
}

#[test]
fn regular_expressions_give_numbers_where_only_digits_fit() {
    assert_eq!(
        values(r"^(\d+) (\w+)s? \((?:x|y)\)$", "3 cats (x)"),
        Some(vec![Value::Int(3), text("cats")])
    );
    assert_eq!(values("/a+(b)?/", "aa"), Some(vec![text("")]));
}

#[test]
fn faults_of_an_expression_name_their_place() {
    assert!(fault("a (b").contains("column 3: '(' has no partner"), "{}", fault("a (b"));
    assert!(fault("a {b").contains("column 3: '{' has no partner"));
    assert!(fault("a ()").contains("( ) is empty"));
    assert!(fault("a/(b) c").contains("an alternative is empty"));
    assert!(fault("a ({int})").contains("'{' cannot stand inside"));
    assert!(fault(r"a\b").contains("column 2: only"));
    assert!(fault("{nonsense}").contains("parameter type \"nonsense\" is not known"));
    assert!(fault("/(/").contains("regular expression"));
}

#[test]
fn a_value_out_of_range_is_told_apart_from_no_match() {
    let types = ParameterTypes::default();
    let expression = Expression::parse("port {port}", &types).unwrap();
    let argument = &expression.matches("port 70000").unwrap()[0];
    assert_eq!(
        argument.value.as_ref().unwrap_err().to_string(),
        "\"70000\" is no port; ports are 1 to 65535"
    );
    let expression = Expression::parse("{int}", &types).unwrap();
    expression.matches("99999999999999999999").unwrap()[0].value.as_ref().unwrap_err();
}

#[test]
fn the_place_of_an_argument_counts_characters() {
    let expression = Expression::parse("名为 {string}", &ParameterTypes::default()).unwrap();
    assert_eq!(expression.matches("名为 “甲”").unwrap()[0].start, Some(3));
}

#[test]
fn a_sentence_proposes_its_expression() {
    let proposal = propose("the account \"main\" holds 100 and 20.5 (in ipv4)");
    assert_eq!(proposal.expression, r"the account {string} holds {int} and {float} \(in ipv4\)");
    assert_eq!(proposal.parameters[0], ("string", text("main")));
    assert_eq!(propose("账户余额为 100 元").expression, "账户余额为 {int} 元");
    assert_eq!(propose("等待 5 秒").expression, "等待 {duration}");
    assert_eq!(propose("the customer's card").expression, "the customer's card");
}

proptest! {
    #[test]
    fn no_expression_makes_us_panic(source in "[a-z(){}/\\\\ 中，0-9\\[\\]?*^$|]{0,30}", text in ".{0,30}") {
        if let Ok(expression) = Expression::parse(&source, &ParameterTypes::default()) {
            let _ = expression.matches(&text);
        }
        let _ = Expression::parse(&text, &ParameterTypes::default());
        let _ = propose(&text);
    }

    #[test]
    fn a_proposed_expression_matches_its_sentence(sentence in "[a-z 中文0-9\"'().,/{}]{1,40}") {
        let proposal = propose(&sentence);
        let expression = Expression::parse(&proposal.expression, &ParameterTypes::default());
        if let Ok(expression) = expression.as_ref().map(|e| (e.kind() == Kind::CucumberExpression).then_some(e))
            && let Some(expression) = expression
        {
            prop_assert!(expression.matches(&sentence).is_some(), "{}", proposal.expression);
        }
    }
}
