//! Reads the base64url members of a JWK.
//!
//! Owns the forms that issuers publish against the RFCs, each of which has one reading only:
//! padding, the standard alphabet, a zero octet before an RSA number, a coordinate without its
//! leading zero octets. Invariants: stray bits and mixed alphabets are always refused; secrets are
//! read in their canonical form only.

use super::key_problem::KeyProblem;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// The accepted forms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    /// That of RFC 7518 only: each key was given on purpose.
    Canonical,
    /// The forms that issuers publish.
    Published,
}

/// A reader of one key's members.
pub(super) struct Reader {
    encoding: Encoding,
    /// True after a form that is not canonical.
    pub(super) is_lenient: bool,
}

impl Reader {
    pub(super) const fn new(encoding: Encoding) -> Self {
        Self {
            encoding,
            is_lenient: false,
        }
    }

    /// Reads a member; padding and the standard alphabet are lenient forms.
    pub(super) fn bytes(&mut self, text: Option<&String>) -> Result<Vec<u8>, KeyProblem> {
        let text = text.ok_or(KeyProblem::Malformed)?;
        let canonical = decode(text);
        if canonical.is_ok() || self.encoding == Encoding::Canonical {
            return canonical;
        }
        let mut plain = text.as_str();
        if plain.len().is_multiple_of(4) {
            plain = plain
                .strip_suffix("==")
                .or_else(|| plain.strip_suffix('='))
                .unwrap_or(plain);
        }
        if plain.contains(['+', '/']) && plain.contains(['-', '_']) {
            return Err(KeyProblem::Encoding);
        }
        let bytes = decode(&plain.replace('+', "-").replace('/', "_"))?;
        self.is_lenient = true;
        Ok(bytes)
    }

    /// Reads a positive number (RFC 7518, section 2); zero octets before it are a lenient form.
    pub(super) fn number(&mut self, text: Option<&String>) -> Result<Vec<u8>, KeyProblem> {
        let bytes = self.bytes(text)?;
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        if zeros == 0 || self.encoding == Encoding::Canonical {
            return Ok(bytes);
        }
        self.is_lenient = true;
        if zeros == bytes.len() {
            return Err(KeyProblem::Encoding);
        }
        Ok(bytes[zeros..].to_vec())
    }

    /// Reads a coordinate, which has the length of its field (RFC 7518, section 6.2.1.2); without
    /// its leading zero octets it is a lenient form.
    pub(super) fn coordinate(
        &mut self,
        text: Option<&String>,
        length: usize,
    ) -> Result<Vec<u8>, KeyProblem> {
        let bytes = self.bytes(text)?;
        if bytes.len() == length {
            return Ok(bytes);
        }
        let is_short = bytes.len() < length && bytes[0] != 0;
        if !is_short || self.encoding == Encoding::Canonical {
            return Err(KeyProblem::Encoding);
        }
        self.is_lenient = true;
        let mut padded = vec![0; length - bytes.len()];
        padded.extend(bytes);
        Ok(padded)
    }
}

/// Reads a member in its canonical form only.
pub(super) fn exact(text: Option<&String>) -> Result<Vec<u8>, KeyProblem> {
    decode(text.ok_or(KeyProblem::Malformed)?)
}

/// Decodes canonical base64url of at least one byte.
fn decode(text: &str) -> Result<Vec<u8>, KeyProblem> {
    match URL_SAFE_NO_PAD.decode(text) {
        Ok(bytes) if !bytes.is_empty() => Ok(bytes),
        _ => Err(KeyProblem::Encoding),
    }
}

#[cfg(test)]
mod tests {
    use super::{Encoding, Reader};

    fn read(encoding: Encoding, kind: &str, text: &str) -> Option<(Vec<u8>, bool)> {
        let mut reader = Reader::new(encoding);
        let text = text.to_owned();
        let bytes = match kind {
            "number" => reader.number(Some(&text)),
            "coordinate" => reader.coordinate(Some(&text), 4),
            _ => reader.bytes(Some(&text)),
        };
        bytes.ok().map(|bytes| (bytes, reader.is_lenient))
    }

    #[test]
    fn published_forms_have_one_reading_and_are_noted() {
        for (kind, text, expected) in [
            ("bytes", "AQAB", vec![1, 0, 1]),
            ("bytes", "-_8", vec![0xfb, 0xff]),
            ("bytes", "+/8", vec![0xfb, 0xff]),
            ("bytes", "+/8=", vec![0xfb, 0xff]),
            ("bytes", "-_8=", vec![0xfb, 0xff]),
            ("bytes", "AQ==", vec![1]),
            ("number", "AAEAAQ", vec![1, 0, 1]),
            ("number", "AAEAAQ==", vec![1, 0, 1]),
            ("coordinate", "AQIDBA", vec![1, 2, 3, 4]),
            ("coordinate", "AAIDBA", vec![0, 2, 3, 4]),
            ("coordinate", "AgME", vec![0, 2, 3, 4]),
        ] {
            let is_canonical = matches!(text, "AQAB" | "-_8" | "AQIDBA" | "AAIDBA");
            assert_eq!(
                read(Encoding::Published, kind, text),
                Some((expected.clone(), !is_canonical)),
                "{text}"
            );
            if kind != "number" {
                let strict = is_canonical.then_some((expected, false));
                assert_eq!(read(Encoding::Canonical, kind, text), strict, "{text}");
            }
        }
    }

    #[test]
    fn ambiguous_forms_are_refused() {
        for (kind, text) in [
            ("bytes", ""),
            ("bytes", "="),
            ("bytes", "AQA"[..1].as_ref()),
            ("bytes", "-/8"),
            ("bytes", "AQ="),
            ("bytes", "AQ==="),
            ("bytes", "A=Q="),
            ("bytes", "AR=="),
            ("bytes", "AR"),
            ("bytes", " AQAB"),
            ("bytes", "AQAB\n"),
            ("number", "AAA"),
            ("coordinate", "AAID"),
            ("coordinate", "AAECAwQ"),
            ("coordinate", "AQIDBAU"),
        ] {
            assert_eq!(read(Encoding::Published, kind, text), None, "{text}");
        }
    }
}
