//! Reads a JSON object in one pass: its members as slices of the text, everything below them
//! checked and skipped.
//!
//! For headers and claims: both are small, must be objects, and only a few of their members matter.
//! Invariant: `JSON.parse` accepts every text that passes, and `serde_json` reads it the same way.

use std::borrow::Cow;
use std::collections::HashSet;

/// Why a text is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flaw {
    /// Not a JSON object in UTF-8, or with a number outside the range of a double.
    Syntax,
    /// Nested too deeply.
    Depth,
    /// A member of an object occurs twice, at any depth.
    Duplicate,
    /// A `__proto__` member, at any depth.
    Proto,
}

/// The value of a member, with its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value<'a> {
    /// The text between the quotes with its escapes, and whether it has escapes.
    String(&'a str, bool),
    Number(&'a str),
    True,
    False,
    Null,
    /// The text with its brackets.
    Array(&'a str),
    Object(&'a str),
}

impl<'a> Value<'a> {
    /// Returns the string, unescaped.
    pub(super) fn string(self) -> Option<Cow<'a, str>> {
        match self {
            Self::String(text, escaped) => Some(unescaped(text, escaped)),
            _ => None,
        }
    }

    /// Returns the number, if it is in the range of a double.
    pub(super) fn number(self) -> Option<f64> {
        let Self::Number(text) = self else {
            return None;
        };
        // Dates are integers of ten digits: a plain loop is faster than the parser for floats.
        if text.len() <= 15 && text.bytes().all(|byte| byte.is_ascii_digit()) {
            let whole = text
                .bytes()
                .fold(0u64, |sum, byte| sum * 10 + u64::from(byte - b'0'));
            return Some(whole as f64);
        }
        text.parse().ok().filter(|number: &f64| number.is_finite())
    }

    /// Calls `each` with every item of an array of strings; returns `false` for any other value.
    pub(super) fn strings(self, mut each: impl FnMut(Cow<'a, str>)) -> bool {
        let Self::Array(text) = self else {
            return false;
        };
        let mut scanner = Scanner {
            text,
            at: 1,
            max_depth: 0,
        };
        scanner.space();
        if scanner.peek() == Some(b']') {
            return true;
        }
        loop {
            scanner.space();
            if scanner.peek() != Some(b'"') {
                return false;
            }
            scanner.at += 1;
            // The array was checked when its object was read.
            let Ok((item, escaped)) = scanner.string() else {
                return false;
            };
            each(unescaped(item, escaped));
            scanner.space();
            let next = scanner.peek();
            scanner.at += 1;
            if next != Some(b',') {
                return next == Some(b']');
            }
        }
    }
}

/// Reads `bytes` as one object and calls `each` with every member, its key unescaped.
pub(super) fn read<'a>(
    bytes: &'a [u8],
    max_depth: usize,
    mut each: impl FnMut(&str, Value<'a>),
) -> Result<(), Flaw> {
    let text = std::str::from_utf8(bytes).map_err(|_| Flaw::Syntax)?;
    let mut scanner = Scanner {
        text,
        at: 0,
        max_depth,
    };
    let mut seen = Seen::default();
    scanner.space();
    scanner.expect(b'{')?;
    scanner.space();
    if scanner.peek() == Some(b'}') {
        scanner.at += 1;
    } else {
        loop {
            let key = scanner.key()?;
            if !seen.add(key.clone()) {
                return Err(Flaw::Duplicate);
            }
            let value = scanner.value(1)?;
            each(&key, value);
            if !scanner.next_item(b'}')? {
                break;
            }
            scanner.space();
        }
    }
    scanner.space();
    if scanner.at == text.len() {
        Ok(())
    } else {
        Err(Flaw::Syntax)
    }
}

/// The keys of one object: a short list, which suffices for headers and claims; a set beyond it.
#[derive(Default)]
struct Seen<'a> {
    few: [Option<&'a str>; 12],
    count: usize,
    many: HashSet<Cow<'a, str>>,
}

impl<'a> Seen<'a> {
    /// Returns `false` if the key was present.
    fn add(&mut self, key: Cow<'a, str>) -> bool {
        if self.few[..self.count].contains(&Some(key.as_ref())) {
            return false;
        }
        match key {
            Cow::Borrowed(key) if self.count < self.few.len() => {
                self.few[self.count] = Some(key);
                self.count += 1;
                self.many.is_empty() || !self.many.contains(key)
            }
            key => self.many.insert(key),
        }
    }
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
    max_depth: usize,
}

impl<'a> Scanner<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    fn expect(&mut self, byte: u8) -> Result<(), Flaw> {
        if self.peek() != Some(byte) {
            return Err(Flaw::Syntax);
        }
        self.at += 1;
        Ok(())
    }

    /// Moves past a comma or `close`; returns whether another item follows.
    fn next_item(&mut self, close: u8) -> Result<bool, Flaw> {
        self.space();
        let byte = self.peek();
        self.at += 1;
        match byte {
            Some(b',') => Ok(true),
            Some(byte) if byte == close => Ok(false),
            _ => Err(Flaw::Syntax),
        }
    }

    /// Reads a key, its colon, and the space after it.
    fn key(&mut self) -> Result<Cow<'a, str>, Flaw> {
        self.expect(b'"')?;
        let (text, escaped) = self.string()?;
        let key = unescaped(text, escaped);
        if key == "__proto__" {
            return Err(Flaw::Proto);
        }
        self.space();
        self.expect(b':')?;
        self.space();
        Ok(key)
    }

    /// Reads a value; `depth` objects and arrays are open around it.
    fn value(&mut self, depth: usize) -> Result<Value<'a>, Flaw> {
        let start = self.at;
        match self.peek() {
            Some(b'"') => {
                self.at += 1;
                let (text, escaped) = self.string()?;
                Ok(Value::String(text, escaped))
            }
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b'{') => {
                self.members(depth + 1)?;
                Ok(Value::Object(&self.text[start..self.at]))
            }
            Some(b'[') => {
                self.items(depth + 1)?;
                Ok(Value::Array(&self.text[start..self.at]))
            }
            Some(b't') => self.word("true", Value::True),
            Some(b'f') => self.word("false", Value::False),
            Some(b'n') => self.word("null", Value::Null),
            _ => Err(Flaw::Syntax),
        }
    }

    fn word(&mut self, word: &str, value: Value<'a>) -> Result<Value<'a>, Flaw> {
        if !self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
            return Err(Flaw::Syntax);
        }
        self.at += word.len();
        Ok(value)
    }

    fn members(&mut self, depth: usize) -> Result<(), Flaw> {
        if depth > self.max_depth {
            return Err(Flaw::Depth);
        }
        self.at += 1;
        self.space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(());
        }
        let mut seen = Seen::default();
        loop {
            self.space();
            let key = self.key()?;
            if !seen.add(key) {
                return Err(Flaw::Duplicate);
            }
            self.value(depth)?;
            if !self.next_item(b'}')? {
                return Ok(());
            }
        }
    }

    fn items(&mut self, depth: usize) -> Result<(), Flaw> {
        if depth > self.max_depth {
            return Err(Flaw::Depth);
        }
        self.at += 1;
        self.space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.space();
            self.value(depth)?;
            if !self.next_item(b']')? {
                return Ok(());
            }
        }
    }

    fn digits(&mut self) -> usize {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        self.at - start
    }

    fn number(&mut self) -> Result<Value<'a>, Flaw> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        let leads_with_zero = self.peek() == Some(b'0');
        let whole = self.digits();
        if whole == 0 || (leads_with_zero && whole > 1) {
            return Err(Flaw::Syntax);
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            if self.digits() == 0 {
                return Err(Flaw::Syntax);
            }
        }
        let mut has_exponent = false;
        if let Some(b'e' | b'E') = self.peek() {
            has_exponent = true;
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            if self.digits() == 0 {
                return Err(Flaw::Syntax);
            }
        }
        let number = Value::Number(&self.text[start..self.at]);
        // A double holds 308 digits before the point.
        if (has_exponent || whole > 300) && number.number().is_none() {
            return Err(Flaw::Syntax);
        }
        Ok(number)
    }

    /// Reads a string after its opening quote. Returns its text, and whether it has escapes.
    fn string(&mut self) -> Result<(&'a str, bool), Flaw> {
        let bytes = self.text.as_bytes();
        let start = self.at;
        let mut escaped = false;
        loop {
            match bytes.get(self.at) {
                Some(b'"') => {
                    let text = &self.text[start..self.at];
                    self.at += 1;
                    return Ok((text, escaped));
                }
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                Some(0x20..) => self.at += 1,
                _ => return Err(Flaw::Syntax),
            }
        }
    }

    fn escape(&mut self) -> Result<(), Flaw> {
        let bytes = self.text.as_bytes();
        match bytes.get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.at += 2;
                Ok(())
            }
            Some(b'u') => {
                let unit = hex(bytes, self.at + 2).ok_or(Flaw::Syntax)?;
                self.at += 6;
                match unit {
                    0xd800..=0xdbff => {
                        let is_pair = bytes.get(self.at..self.at + 2) == Some(b"\\u")
                            && matches!(hex(bytes, self.at + 2), Some(0xdc00..=0xdfff));
                        if !is_pair {
                            return Err(Flaw::Syntax);
                        }
                        self.at += 6;
                        Ok(())
                    }
                    0xdc00..=0xdfff => Err(Flaw::Syntax),
                    _ => Ok(()),
                }
            }
            _ => Err(Flaw::Syntax),
        }
    }
}

fn hex(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.iter().try_fold(0, |sum, byte| {
        char::from(*byte).to_digit(16).map(|digit| sum * 16 + digit)
    })
}

/// Removes the escapes of a text that was checked.
fn unescaped(text: &str, escaped: bool) -> Cow<'_, str> {
    if !escaped {
        return Cow::Borrowed(text);
    }
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    quoted.push_str(text);
    quoted.push('"');
    Cow::Owned(serde_json::from_str(&quoted).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::{Flaw, Value, read};
    use proptest::prelude::*;

    fn flaw(text: &str) -> Result<(), Flaw> {
        read(text.as_bytes(), 32, |_, _| {})
    }

    #[test]
    fn members_are_slices_of_the_text() {
        let mut seen = Vec::new();
        read(
            br#" {"a":"x\n","b" : [1, {"c":2}], "d":-1.5e3,"\u0065":null} "#,
            32,
            |key, value| {
                seen.push((key.to_owned(), format!("{value:?}")));
            },
        )
        .unwrap();
        let values: Vec<_> = seen
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect();
        assert_eq!(
            values,
            [
                ("a", r#"String("x\\n", true)"#),
                ("b", r#"Array("[1, {\"c\":2}]")"#),
                ("d", r#"Number("-1.5e3")"#),
                ("e", "Null"),
            ]
        );
    }

    #[test]
    fn flaws_have_names() {
        for text in [
            "",
            "[]",
            "1",
            "{",
            "{}x",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{a:1}",
            "{\"a\":01}",
            "{\"a\":1e400}",
            "\u{feff}{}",
            "{\"a\":\"\\ud800\"}",
            "{\"a\":\"\t\"}",
            "{\"a\":tru}",
        ] {
            assert_eq!(flaw(text), Err(Flaw::Syntax), "{text}");
        }
        assert_eq!(read(b"{\"a\":\"\xff\"}", 32, |_, _| {}), Err(Flaw::Syntax));
        assert_eq!(flaw(r#"{"a":1,"\u0061":2}"#), Err(Flaw::Duplicate));
        assert_eq!(
            flaw(r#"{"a":[{"b":{"c":1,"\u0063":2}}]}"#),
            Err(Flaw::Duplicate)
        );
        assert_eq!(flaw(r#"{"a":[{"b":1},{"b":{"b":2}}]}"#), Ok(()));
        assert_eq!(flaw(r#"{"a":{"__prot\u006f__":1}}"#), Err(Flaw::Proto));
        assert_eq!(
            flaw(&format!("{{\"a\":{}{}}}", "[".repeat(31), "]".repeat(31))),
            Ok(())
        );
        assert_eq!(
            flaw(&format!("{{\"a\":{}{}}}", "[".repeat(32), "]".repeat(32))),
            Err(Flaw::Depth)
        );
        assert_eq!(
            flaw(&format!("{{\"a\":{}", "[".repeat(100_000))),
            Err(Flaw::Depth)
        );
    }

    #[test]
    fn duplicates_are_found_among_many_and_behind_escapes() {
        let many: Vec<_> = (0..40).map(|at| format!("\"k{at}\":1")).collect();
        assert_eq!(flaw(&format!("{{{}}}", many.join(","))), Ok(()));
        for again in ["k0", "k39", "\\u006b7", "k\\u0030"] {
            assert_eq!(
                flaw(&format!("{{{},\"{again}\":2}}", many.join(","))),
                Err(Flaw::Duplicate),
                "{again}"
            );
            assert_eq!(
                flaw(&format!("{{\"{again}\":2,{}}}", many.join(","))),
                Err(Flaw::Duplicate),
                "{again}"
            );
        }
    }

    #[test]
    fn arrays_of_strings_are_read() {
        let strings = |text: &'static str| {
            let mut items = Vec::new();
            Value::Array(text)
                .strings(|item| items.push(item.into_owned()))
                .then_some(items)
        };
        assert_eq!(strings("[ ]"), Some(vec![]));
        assert_eq!(
            strings(r#"["a", "b\"c" ]"#),
            Some(vec!["a".to_owned(), "b\"c".to_owned()])
        );
        assert_eq!(strings(r#"["a",1]"#), None);
        assert_eq!(strings(r#"[["a"]]"#), None);
        assert!(!Value::Null.strings(|_| {}));
    }

    fn json() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            Just("null".to_owned()),
            Just("true".to_owned()),
            any::<i64>().prop_map(|number| number.to_string()),
            any::<f64>()
                .prop_filter("finite", |f| f.is_finite())
                .prop_map(|number| format!("{number:e}")),
            ".{0,8}".prop_map(|text| serde_json::to_string(&text).unwrap()),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4)
                    .prop_map(|items| format!("[{}]", items.join(" , "))),
                prop::collection::vec((".{0,3}", inner), 0..4).prop_map(|members| {
                    let members: Vec<_> = members
                        .iter()
                        .map(|(key, value)| {
                            format!("{}:{value}", serde_json::to_string(key).unwrap())
                        })
                        .collect();
                    format!("{{{}}}", members.join(","))
                }),
            ]
        })
    }

    /// Whether serde_json reads the text as an object.
    fn oracle(bytes: &[u8]) -> bool {
        matches!(
            serde_json::from_slice(bytes),
            Ok(serde_json::Value::Object(_))
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn accepts_what_serde_json_accepts(text in json()) {
            let ours = read(text.as_bytes(), 32, |_, _| {});
            if ours != Err(Flaw::Duplicate) && ours != Err(Flaw::Proto) {
                prop_assert_eq!(ours.is_ok(), oracle(text.as_bytes()));
            }
        }

        #[test]
        fn a_changed_byte_is_judged_as_serde_json_does(text in json(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut bytes = format!("{{\"k\":{text}}}").into_bytes();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let ours = read(&bytes, 32, |_, _| {});
            if ours != Err(Flaw::Duplicate) && ours != Err(Flaw::Proto) {
                prop_assert_eq!(ours.is_ok(), oracle(&bytes), "{:?}", String::from_utf8_lossy(&bytes));
            }
        }
    }
}
