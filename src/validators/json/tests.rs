//! Compares the scanner with `serde_json`, and tests each limit.

use super::outcome::Step;
use super::{JsonLimits, Report, Scanner, Segment};
use crate::validators::Failure;
use proptest::prelude::*;

fn open_limits() -> JsonLimits {
    JsonLimits {
        max_bytes: usize::MAX,
        max_depth: 100,
        max_values: usize::MAX,
        max_keys: usize::MAX,
        max_key_bytes: usize::MAX,
        unique_keys: false,
        safe_keys: false,
        ..JsonLimits::default()
    }
}

fn verdict(bytes: &[u8], limits: &JsonLimits) -> Option<(Failure, usize)> {
    Scanner::new()
        .scan(bytes, limits)
        .err()
        .map(|refusal| (refusal.failure, refusal.offset))
}

fn refusal(text: &str) -> Option<(Failure, usize)> {
    verdict(text.as_bytes(), &JsonLimits::default())
}

/// JSON, and text that is nearly JSON.
fn nearly_json() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just("{"),
        Just("}"),
        Just("["),
        Just("]"),
        Just(":"),
        Just(","),
        Just("\""),
        Just("\\"),
        Just("\\u"),
        Just("d83d"),
        Just("\\ude00"),
        Just("\\n"),
        Just("\"a\""),
        Just("\"b\":"),
        Just("0"),
        Just("-"),
        Just("1"),
        Just("12345678901234567890"),
        Just("."),
        Just("e"),
        Just("E+"),
        Just("400"),
        Just("1e308"),
        Just("true"),
        Just("false"),
        Just("null"),
        Just("nul"),
        Just(" "),
        Just("\n\t\r"),
        Just("        "),
        Just("é"),
        Just("\u{2028}"),
        Just("😀"),
        Just("\u{1}"),
        Just("plain text of some length, beyond sixteen bytes"),
    ]
    .prop_map(|text| text.as_bytes().to_vec());
    let piece = prop_oneof![20 => piece, 1 => proptest::collection::vec(any::<u8>(), 1..4)];
    proptest::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

fn valid_json() -> impl Strategy<Value = String> {
    let scalar = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        ".{0,40}".prop_map(Into::into),
        "[a-z\u{0}-\u{1f}\"\\\\é😀]{0,20}".prop_map(Into::into),
    ];
    let value = scalar.prop_recursive(6, 64, 8, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..8).prop_map(Into::into),
            proptest::collection::btree_map("[a-z]{0,3}|\\PC{0,12}", inner, 0..24)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    });
    (value, any::<bool>()).prop_map(|(value, is_pretty)| {
        if is_pretty {
            serde_json::to_string_pretty(&value).unwrap_or_default()
        } else {
            value.to_string()
        }
    })
}

/// True if any object repeats a key.
fn repeats_a_key(text: &str) -> bool {
    struct Checked(bool);
    impl<'de> serde::Deserialize<'de> for Checked {
        fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
            from.deserialize_any(Visitor)
        }
    }
    struct Visitor;
    impl<'de> serde::de::Visitor<'de> for Visitor {
        type Value = Checked;
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("JSON")
        }
        fn visit_unit<E>(self) -> Result<Checked, E> {
            Ok(Checked(false))
        }
        fn visit_bool<E>(self, _: bool) -> Result<Checked, E> {
            Ok(Checked(false))
        }
        fn visit_i64<E>(self, _: i64) -> Result<Checked, E> {
            Ok(Checked(false))
        }
        fn visit_u64<E>(self, _: u64) -> Result<Checked, E> {
            Ok(Checked(false))
        }
        fn visit_f64<E>(self, _: f64) -> Result<Checked, E> {
            Ok(Checked(false))
        }
        fn visit_str<E>(self, _: &str) -> Result<Checked, E> {
            Ok(Checked(false))
        }
        fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<Checked, A::Error> {
            let mut repeats = false;
            while let Some(Checked(inner)) = seq.next_element()? {
                repeats |= inner;
            }
            Ok(Checked(repeats))
        }
        fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Checked, A::Error> {
            let mut seen = std::collections::HashSet::new();
            let mut repeats = false;
            while let Some((key, Checked(inner))) = map.next_entry::<String, Checked>()? {
                repeats |= inner || !seen.insert(key);
            }
            Ok(Checked(repeats))
        }
    }
    serde_json::from_str::<Checked>(text).is_ok_and(|checked| checked.0)
}

type Verdict = Result<Report, (Failure, usize)>;

/// Returns the outcome of a scan in parts, unless it requires the whole text.
fn in_parts(bytes: &[u8], limits: &JsonLimits, part: usize) -> Option<(Verdict, Vec<Segment>)> {
    let mut scanner = Scanner::new();
    let mut end = part.min(bytes.len());
    let mut outcome = scanner.begin(bytes.len(), limits).map(|()| Step::More);
    while outcome == Ok(Step::More) {
        outcome = scanner.resume(&bytes[..end], limits, end == bytes.len());
        end = (end + part).min(bytes.len());
    }
    let verdict = match outcome {
        Ok(Step::Passed(report)) => Ok(report),
        Err(refusal) => Err((refusal.failure, refusal.offset)),
        Ok(Step::Cut | Step::More) => return None,
    };
    Some((verdict, scanner.path(bytes)))
}

proptest! {
    // 512 cases by default, and 2048 with PROPTEST_CASES=1024.
    #![proptest_config(ProptestConfig {
        cases: ProptestConfig::default().cases * 2,
        ..ProptestConfig::default()
    })]

    #[test]
    fn accepts_what_serde_json_accepts(bytes in nearly_json()) {
        let ours = verdict(&bytes, &open_limits());
        let theirs = serde_json::from_slice::<serde_json::Value>(&bytes);
        prop_assert_eq!(ours.is_none(), theirs.is_ok(), "{:?} {:?}", ours, String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn repeated_keys_are_found_as_by_a_hash_set(text in r#"\{("[ab]{0,2}":(\{("[ab]{0,2}":1,){0,3}"c":0\}|0),){0,20}"c":0\}"#) {
        let limits = JsonLimits { unique_keys: true, ..open_limits() };
        let ours = verdict(text.as_bytes(), &limits).map(|(failure, _)| failure);
        prop_assert_eq!(ours, repeats_a_key(&text).then_some(Failure::JsonDuplicateKey));
    }

    #[test]
    fn accepts_valid_json_and_refuses_its_prefixes(text in valid_json(), cut in any::<proptest::sample::Index>()) {
        prop_assert_eq!(verdict(text.as_bytes(), &open_limits()), None);
        let cut = cut.index(text.len());
        let shorter = &text.as_bytes()[..cut];
        let theirs = serde_json::from_slice::<serde_json::Value>(shorter).is_ok();
        prop_assert_eq!(verdict(shorter, &open_limits()).is_none(), theirs);
    }

    #[test]
    fn no_bytes_make_the_scanner_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        let mut scanner = Scanner::new();
        if let Err(refusal) = scanner.scan(&bytes, &JsonLimits::default()) {
            prop_assert!(refusal.offset <= bytes.len());
            prop_assert!(scanner.path(&bytes).len() <= 512);
        }
    }
}

proptest! {
    // Each case takes milliseconds: 51 by default, and 204 with PROPTEST_CASES=1024.
    #![proptest_config(ProptestConfig {
        cases: ProptestConfig::default().cases / 5,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_scan_in_parts_agrees_with_a_scan_of_the_whole(
        texts in proptest::collection::vec(prop_oneof![
            8 => valid_json().prop_map(String::into_bytes),
            1 => nearly_json(),
            1 => Just(vec![b' '; 3000]),
            1 => Just(format!("\"{}\"", "x".repeat(3000)).into_bytes()),
        ], 0..60),
        part in 2100_usize..5000,
        max_values in prop_oneof![1_usize..400, Just(usize::MAX)],
    ) {
        let mut text = texts.join(&b',');
        text.insert(0, b'[');
        text.push(b']');
        let limits = JsonLimits { max_values, ..JsonLimits::default() };
        if let Some((verdict, path)) = in_parts(&text, &limits, part) {
            let mut scanner = Scanner::new();
            let whole = scanner.scan(&text, &limits);
            prop_assert_eq!(verdict, whole.map_err(|refusal| (refusal.failure, refusal.offset)));
            prop_assert_eq!(path, scanner.path(&text));
        }
    }

    #[test]
    fn fast_paths_for_rows_count_like_the_loop(
        pieces in proptest::collection::vec(prop_oneof![
            Just("0"), Just("7"), Just("[]"), Just("{}"), Just("12"), Just("-"), Just(""), Just(" 1"), Just("[7,8,9,0,1,2,3,4]"),
        ], 0..40),
        repeated in prop_oneof![Just("3,"), Just("[],"), Just("{},"), Just("9,[],"), Just("1-"), Just("1,/")],
        times in 0_usize..40,
        max_values in 1_usize..100,
        max_items in 0_usize..60,
    ) {
        let text = format!("[{}{}0]", repeated.repeat(times), pieces.iter().map(|piece| format!("{piece},")).collect::<String>());
        // A space before each comma prevents the fast path for rows of single digits.
        let spaced = text.replace(',', " ,");
        let limits = JsonLimits { max_values, max_items, ..JsonLimits::default() };
        let mut scanner = Scanner::new();
        let ours = scanner.scan(text.as_bytes(), &limits);
        let mut other = Scanner::new();
        let theirs = other.scan(spaced.as_bytes(), &limits);
        prop_assert_eq!(ours.map_err(|refusal| refusal.failure), theirs.map_err(|refusal| refusal.failure));
        prop_assert_eq!(scanner.path(text.as_bytes()), other.path(spaced.as_bytes()));
    }
}

#[test]
fn a_byte_order_mark_is_skipped_once_where_the_limits_allow_it() {
    let limits = JsonLimits {
        no_byte_order_mark: false,
        ..JsonLimits::default()
    };
    let mut scanner = Scanner::new();
    for text in ["1", " {\"a\":[1]}", "\"\u{feff}\""] {
        let marked = format!("\u{feff}{text}");
        let report = scanner.scan(marked.as_bytes(), &limits).unwrap();
        assert!(!report.is_ascii);
        let plain = scanner.scan(text.as_bytes(), &limits).unwrap();
        assert_eq!((report.values, report.depth), (plain.values, plain.depth));
    }
    for (text, offset) in [("\u{feff}", 3), ("\u{feff}\u{feff}1", 3), (" \u{feff}1", 1)] {
        assert_eq!(
            scanner.scan(text.as_bytes(), &limits).unwrap_err().offset,
            offset,
            "{text:?}"
        );
    }
    let refusal = scanner
        .scan("\u{feff}{\"a\":[tru]}".as_bytes(), &limits)
        .unwrap_err();
    assert_eq!((refusal.failure, refusal.offset), (Failure::JsonSyntax, 9));
}

#[test]
fn refusals_name_failure_offset_and_path() {
    for (text, failure, offset) in [
        ("", Failure::JsonSyntax, 0),
        ("  ", Failure::JsonSyntax, 2),
        ("[1,]", Failure::JsonSyntax, 3),
        ("{\"a\":1,}", Failure::JsonSyntax, 7),
        ("01", Failure::JsonSyntax, 1),
        ("[1}", Failure::JsonSyntax, 2),
        ("\u{feff}1", Failure::JsonEncoding, 0),
        ("é", Failure::JsonSyntax, 0),
        ("{\"a\":1,\"\\u0061\":2}", Failure::JsonDuplicateKey, 8),
        ("{\"x\":{\"__proto__\":1}}", Failure::JsonForbiddenKey, 7),
        ("{\"__pro\\u0074o__\":1}", Failure::JsonForbiddenKey, 2),
        (
            "{\"constructor\":{\"prototype\":1}}",
            Failure::JsonForbiddenKey,
            17,
        ),
        (
            "{\"c\\u006fnstructor\":{\"x\":1,\"\\u0070rototype\":1}}",
            Failure::JsonForbiddenKey,
            28,
        ),
        ("[1e309]", Failure::JsonNumberRange, 1),
        ("[-1.8e308]", Failure::JsonNumberRange, 1),
        ("\"\\ud800\"", Failure::JsonSurrogate, 1),
        ("\"\\udc00\\ud800\"", Failure::JsonSurrogate, 1),
        ("\"\\u12g4\"", Failure::JsonSyntax, 5),
    ] {
        assert_eq!(refusal(text), Some((failure, offset)), "{text}");
    }
    for text in [
        "{\"constructor\":1,\"prototype\":2}",
        "{\"constructor\":[{\"prototype\":2}]}",
        "{\"constructor\":{\"a\":{\"prototype\":2}}}",
        "{\"a\":\"__proto__\"}",
        "1e308",
        "1.7976931348623157e308",
        "0e999999999999999999",
        "1e-999999999999",
        "123456789012345678901234567890",
        "{\"a\":{\"a\":{\"a\":1}},\"b\":[{\"a\":1},{\"a\":1}]}",
        "\"\\ud83d\\ude00\"",
        " \n[ ] ",
    ] {
        assert_eq!(refusal(text), None, "{text}");
    }
    assert_eq!(
        verdict(b"[\"\xff\"]", &JsonLimits::default()),
        Some((Failure::JsonEncoding, 2))
    );
}

#[test]
fn every_limit_accepts_its_value_and_refuses_one_more() {
    type Set = fn(&mut JsonLimits, usize);
    let cases: [(&str, Set, usize, Failure); 7] = [
        (
            "[[[0]]]",
            |limits, at| limits.max_depth = at,
            3,
            Failure::JsonDepth,
        ),
        (
            "[0,[],{}]",
            |limits, at| limits.max_values = at,
            4,
            Failure::JsonValues,
        ),
        (
            "{\"a\":0,\"b\":1}",
            |limits, at| limits.max_keys = at,
            2,
            Failure::JsonKeys,
        ),
        (
            "[0,1,2]",
            |limits, at| limits.max_items = at,
            3,
            Failure::JsonItems,
        ),
        (
            "[\"abcdefghijklmnopqrst\"]",
            |limits, at| limits.max_string_bytes = at,
            20,
            Failure::JsonStringLength,
        ),
        (
            "{\"abc\":0}",
            |limits, at| limits.max_key_bytes = at,
            3,
            Failure::JsonKeyLength,
        ),
        (
            "[0]",
            |limits, at| limits.max_bytes = at,
            3,
            Failure::PayloadTooLarge,
        ),
    ];
    for (text, set, value, failure) in cases {
        let mut limits = JsonLimits::default();
        set(&mut limits, value);
        assert_eq!(verdict(text.as_bytes(), &limits), None, "{text}");
        set(&mut limits, value - 1);
        let refusal = Scanner::new().scan(text.as_bytes(), &limits).err();
        let refusal = refusal.map(|refusal| (refusal.failure, refusal.limit));
        assert_eq!(refusal, Some((failure, Some(value - 1))), "{text}");
    }
}

#[test]
fn a_path_leads_to_the_failure() {
    let text = b"{\"a\":[0,{\"b\\n\":1,\"c\":[1,2,x]}]}";
    let mut scanner = Scanner::new();
    assert!(scanner.scan(text, &JsonLimits::default()).is_err());
    let key = |name: &str| Segment::Key(name.into());
    assert_eq!(
        scanner.path(text),
        [key("a"), Segment::Index(1), key("c"), Segment::Index(2)]
    );
}

#[test]
fn deep_nesting_uses_no_call_stack() {
    let deep = "[".repeat(1 << 20);
    assert_eq!(refusal(&deep), Some((Failure::JsonDepth, 64)));
    let limits = JsonLimits {
        max_depth: usize::MAX,
        ..open_limits()
    };
    assert_eq!(
        verdict(deep.as_bytes(), &limits),
        Some((Failure::JsonDepth, 512))
    );
}

#[test]
fn a_value_at_the_end_of_a_part_does_not_end_the_text() {
    for (value, rest) in [("[1]", "x"), ("1", "2"), ("1", " "), ("\"a\"", ",")] {
        for part in [2100, 3000] {
            let text = format!("{value}{}{rest}", " ".repeat(part - value.len()));
            assert_eq!(
                in_parts(text.as_bytes(), &JsonLimits::default(), part),
                None
            );
        }
    }
}

#[test]
fn spaces_at_the_end_of_a_part_are_not_an_array_item() {
    for text in ["[?]", "{?}", "[0,?1]", "[0?]", "{?\"a\"?:?1?}"] {
        let text = text.replace('?', &" ".repeat(3000));
        let parts = in_parts(text.as_bytes(), &JsonLimits::default(), 2100);
        assert!(parts.is_none_or(|(verdict, _)| verdict.is_ok()), "{text}");
    }
}

#[test]
fn a_text_in_parts_is_refused_before_its_last_part() {
    let limits = JsonLimits::default();
    let part = 16 << 10;
    for (piece, failure) in [
        ("[", Failure::JsonDepth),
        ("0,", Failure::JsonValues),
        ("[],", Failure::JsonValues),
        ("\"a\" ,", Failure::JsonValues),
        ("0]", Failure::JsonSyntax),
        ("1e999,", Failure::JsonNumberRange),
    ] {
        let text = format!("[{}", piece.repeat((1 << 20) / piece.len() - 1));
        let whole = verdict(text.as_bytes(), &limits);
        assert_eq!(whole.map(|(failure, _)| failure), Some(failure), "{piece}");
        let parts = in_parts(text.as_bytes(), &limits, part);
        // Whether more digits follow a number is not known.
        let known = failure != Failure::JsonNumberRange;
        assert_eq!(
            parts.map(|(verdict, _)| verdict.err()),
            known.then_some(whole),
            "{piece}"
        );
    }
}

#[test]
fn strings_end_alike_wherever_blocks_of_64_bytes_end() {
    let limits = open_limits();
    for before in 0..66 {
        for length in (0..20).chain(40..90).chain(120..135) {
            let text = "a".repeat(length);
            for (inside, passes) in [
                ("", true),
                ("\\n", true),
                ("\u{e9}", true),
                ("\u{1f}", false),
                ("\u{7f}", true),
                ("\\", false),
            ] {
                for tail in [0, 1, 63, 64, 65] {
                    let json = format!(
                        "{}{{\"{text}{inside}\":\"{text}{inside}\"}}{}",
                        " ".repeat(before),
                        " ".repeat(tail)
                    );
                    let report = Scanner::new().scan(json.as_bytes(), &limits);
                    assert_eq!(report.is_ok(), passes, "{json:?}");
                    if let Ok(report) = report {
                        assert_eq!(report.is_ascii, json.is_ascii(), "{json:?}");
                    }
                    let cut = &json.trim_end().as_bytes()[..json.trim_end().len() - 2];
                    assert!(Scanner::new().scan(cut, &limits).is_err());
                }
            }
        }
    }
}
