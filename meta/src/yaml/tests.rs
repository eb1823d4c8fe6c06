use super::*;
use serde_json::json;
use std::collections::BTreeSet;

/// As `tests/data/yaml/judge.py` writes it.
fn plain(node: &Node) -> serde_json::Value {
    match &node.value {
        Value::Null => json!(null),
        Value::Bool(yes) => json!(yes),
        Value::Int(number) => json!({ "int": number.to_string() }),
        Value::Float(number) if number.is_nan() => json!({ "float": "nan" }),
        Value::Float(number) => json!({ "float": format!("{:016x}", number.to_bits()) }),
        Value::Text(text) => json!(text),
        Value::Bytes(bytes) => {
            json!({ "bytes": bytes.iter().map(|b| format!("{b:02x}")).collect::<String>() })
        }
        Value::List(items) => items.iter().map(plain).collect(),
        Value::Map(pairs) => {
            let mut pairs: Vec<_> = pairs.iter().map(|(key, value)| [plain(key), plain(value)]).collect();
            pairs.sort_by_key(|[key, _]| key.to_string());
            json!({ "map": pairs })
        }
    }
}

/// Documents of which PyYAML and this reader think differently. Each is refused by one of them, and the other one's reading is
/// what its author meant.
const DIFFERENT: [&str; 12] = [
    // YAML 1.2 allows what 1.1 does not: an empty document, an empty key, a tab, a dot in an anchor, an anchor that moves.
    "...\n",
    ": b\n",
    "\ta: b\n",
    "a: b\t# c\n",
    "a: &a-b.c 1\nb: *a-b.c\n",
    "x: &x 1\ny: &x 2\nz: *x\n",
    // And asks for what 1.1 does not: brackets and quotes that lie deeper than their key, a space before a comment.
    "a: [\nx]\n",
    "a: {\nx: 1\n}\n",
    "a: '\n\n'\n",
    "a: [b]#c\n",
    "a: \"a\"# c\n",
    // A byte order mark within the text is nobody's intent.
    "a: \u{feff}b\n",
];

#[test]
fn documents_mean_what_pyyaml_says() {
    let cases = include_str!("../../tests/data/yaml/cases.txt");
    let verdicts: Vec<serde_json::Value> =
        serde_json::from_str(include_str!("../../tests/data/yaml/verdicts.json")).unwrap();
    let cases: Vec<&str> = cases.split("=====\n").collect();
    assert_eq!(cases.len(), verdicts.len(), "run tests/data/yaml/judge.py");
    let mut wrong = BTreeSet::new();
    for (case, verdict) in cases.iter().zip(&verdicts) {
        let parsed = parse(case);
        let ours = match parsed.mistakes.first() {
            None => json!({ "value": plain(&parsed.root) }),
            Some(mistake) => json!({ "error": mistake.message }),
        };
        let same = match verdict.get("error") {
            Some(_) => ours.get("error").is_some(),
            None => ours == *verdict,
        };
        let known = DIFFERENT.contains(case);
        if same == known {
            wrong.insert(format!("{case:?}\n  PyYAML: {verdict}\n  here:   {ours}\n"));
        }
    }
    assert!(wrong.is_empty(), "{} differ\n{}", wrong.len(), wrong.into_iter().collect::<String>());
}

#[test]
fn each_value_keeps_its_place() {
    let parsed = parse("\u{feff}a: 1\nbb:\n  - \"é\": [x, ~]\n    c: |\n      z\n");
    assert!(parsed.mistakes.is_empty(), "{:?}", parsed.mistakes);
    let at = |node: &Node| (node.at.line, node.at.column);
    let (key, value) = parsed.root.pair("bb").unwrap();
    assert_eq!((at(&parsed.root), at(key), at(parsed.root.get("a").unwrap())), ((1, 1), (2, 1), (1, 4)));
    let Value::List(items) = &value.value else { panic!() };
    let Value::List(inner) = &items[0].get("é").unwrap().value else { panic!() };
    assert_eq!((at(&items[0]), at(&inner[0]), at(&inner[1])), ((3, 5), (3, 11), (3, 14)));
    assert_eq!(at(items[0].pair("c").unwrap().0), (4, 5));
    assert_eq!(inner[1].kind(), "empty");
    assert_eq!(
        parse("a: 22:22").root.get("a").unwrap().kind_as_written(),
        "a number to base 60 (\"22:22\" without quotes)"
    );
}

#[test]
fn a_key_that_is_there_twice_is_an_error_and_counts_for_nothing() {
    let parsed = parse("a: 1\nb: {c: 1, d: 2, c: 3}\na: 2\n1: x\n1: y\n<<: {z: 1}\n<<: {y: 1}\n");
    let told: Vec<String> = parsed.mistakes.iter().map(|m| format!("{} {}", m.at, m.message)).collect();
    assert_eq!(
        told,
        [
            "2:17 \"c\" is there twice",
            "3:1 \"a\" is there twice",
            "5:1 \"this key\" is there twice",
            "7:1 \"<<\" is there twice"
        ]
    );
    assert!(parsed.whole && parsed.root.get("a").is_none() && parsed.root.get("b").is_some());
    // What is merged in is not.
    assert!(parse("x: &x {a: 1}\ny: {<<: *x, a: 2}\n").mistakes.is_empty());
}

#[test]
fn what_precedes_an_error_of_syntax_is_there() {
    let parsed = parse("a: 1\nb: [1, 2]\nc: [x\nd: 3\n");
    assert!(!parsed.whole);
    assert_eq!(parsed.mistakes.len(), 1);
    let Value::Map(pairs) = &parsed.root.value else { panic!() };
    assert_eq!(pairs.iter().map(|(key, _)| key.text().unwrap()).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(parse("[a").root.value, Value::Map(Vec::new()));
}

#[test]
fn a_bomb_costs_nothing() {
    let mut laughs = "a: &a [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for (n, l) in ('b'..='i').enumerate() {
        let before = char::from(b'a' + u8::try_from(n).unwrap());
        laughs.push_str(&format!("{l}: &{l} [*{before}, *{before}, *{before}, *{before}, *{before}, *{before}, *{before}, *{before}, *{before}]\n"));
    }
    let merged = laughs
        .replace("[x, x, x, x, x, x, x, x, x, x]", "{k: v}")
        .replace("[*", "{<<: [*")
        .replace("]\n", "]}\n");
    let long = format!("a: &a {}\nb: [{}]\n", "x".repeat(1 << 19), "*a, ".repeat(100));
    let flat = format!("a: [{}]\n", "1, ".repeat(60_000));
    for (text, says) in [
        (laughs.as_str(), "aliases count"),
        (&merged, "aliases count"),
        (&long, "bytes of text"),
        (&flat, "more than 50000 values"),
        (&"[".repeat(100_000), "limit exceeded"),
        (&"- ".repeat(100_000), "levels below each other"),
        (&"{a: ".repeat(200), "levels below each other"),
        ("a: &a [*a]", "contain itself"),
    ] {
        let parsed = parse(text);
        assert!(parsed.mistakes[0].message.contains(says), "{:?}", parsed.mistakes);
    }
}
