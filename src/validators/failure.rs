//! All failures of input: stable code, HTTP status, meaning and remedy of each.
//!
//! `scripts/failures.mjs` generates TypeScript and a table in `docs/errors.md` from this list, so
//! that each code is defined once. The meaning is the message that JavaScript sees. Invariant: it
//! never contains a token, a header value or text of a payload.

macro_rules! failures {
    ($($name:ident = $code:literal, $status:literal, $meaning:literal, $remedy:literal;)*) => {
        /// Why input was refused. Its number crosses to JavaScript, where 0 means "no failure".
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Failure {
            /// Number 0, which is not a failure and never occurs.
            Never = 0,
            $(#[doc = $meaning] $name,)*
        }

        impl Failure {
            /// All failures, in the order of their numbers from 1.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Returns the stable code.
            #[must_use]
            pub const fn code(self) -> &'static str {
                match self { Self::Never => "", $(Self::$name => $code,)* }
            }

            /// Returns the HTTP status of the answer.
            #[must_use]
            pub const fn status(self) -> u16 {
                match self { Self::Never => 0, $(Self::$name => $status,)* }
            }

            /// Returns the meaning, which is the message.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { Self::Never => "", $(Self::$name => $meaning,)* }
            }

            /// Returns the remedy.
            #[must_use]
            pub const fn remedy(self) -> &'static str {
                match self { Self::Never => "", $(Self::$name => $remedy,)* }
            }
        }
    };
}

failures! {
    // Tokens: the form
    TokenRequired = "ERR_TOKEN_REQUIRED", 401, "Authentication token is required", "Send a token.";
    TokenType = "ERR_TOKEN_TYPE", 400, "Token must be a string", "Pass the token as a string.";
    TokenTooLong = "ERR_TOKEN_TOO_LONG", 401, "Token too long", "Issue smaller tokens, or raise the verifier's `maxTokenBytes`.";
    TokenFormat = "ERR_TOKEN_FORMAT", 401, "Invalid token format", "Send a JWS in compact form: three base64url parts and two dots.";
    TokenEncoding = "ERR_TOKEN_ENCODING", 401, "Token is not canonical base64url", "Encode without padding, white space or stray trailing bits.";
    TokenEncrypted = "ERR_TOKEN_ENCRYPTED", 401, "Token is encrypted", "Send a signed token (JWS): encrypted tokens (JWE) are not supported.";
    // Tokens: the header
    TokenHeader = "ERR_TOKEN_HEADER", 401, "Token header is not a valid JSON object", "Issue tokens whose header is a JSON object with a string `alg`.";
    TokenHeaderDuplicate = "ERR_TOKEN_HEADER_DUPLICATE", 401, "Token header repeats a member", "Issue tokens whose header has each member once.";
    TokenAlgorithm = "ERR_TOKEN_ALGORITHM", 401, "Token algorithm is not allowed", "Sign with an algorithm of the verifier's `algorithms` that belongs to the key.";
    TokenTyp = "ERR_TOKEN_TYP", 401, "Token has another type", "Issue tokens with the `typ` that the verifier expects.";
    TokenCritical = "ERR_TOKEN_CRITICAL", 401, "Token requires an unknown extension", "Issue tokens without `crit`, or name the extension in `allowedCritical`.";
    TokenUnencoded = "ERR_TOKEN_UNENCODED", 401, "Token payload is declared unencoded", "Issue tokens without `b64: false`.";
    TokenCompressed = "ERR_TOKEN_COMPRESSED", 401, "Token payload is declared compressed", "Issue tokens without `zip`.";
    TokenEmbeddedKey = "ERR_TOKEN_EMBEDDED_KEY", 401, "Token contains its own key", "Issue tokens without `jwk`, `jku`, `x5u` and `x5c`: keys are configured in the verifier.";
    // Tokens: the key and the signature
    TokenKid = "ERR_TOKEN_KID", 401, "Token key id is not valid", "Use key ids of at most 256 printable ASCII characters.";
    TokenKeyUnknown = "ERR_TOKEN_KEY_UNKNOWN", 401, "Token is signed with an unknown key", "Add the key to the verifier, or publish it in the key set.";
    TokenKeyAmbiguous = "ERR_TOKEN_KEY_AMBIGUOUS", 401, "Token matches more than one key", "Give each key a `kid`, and set it in the token.";
    TokenKeysUnavailable = "ERR_TOKEN_KEYS_UNAVAILABLE", 503, "Keys are not available at the moment", "Retry; check that the URL of the key set answers.";
    TokenSignature = "ERR_TOKEN_SIGNATURE", 401, "Token signature is not valid", "Sign with a key that the verifier has; do not change signed tokens.";
    // Tokens: the claims
    TokenClaims = "ERR_TOKEN_CLAIMS", 401, "Token claims are not a valid JSON object", "Issue tokens whose payload is a JSON object in UTF-8.";
    TokenClaimsTooComplex = "ERR_TOKEN_CLAIMS_TOO_COMPLEX", 401, "Token claims are nested too deeply or too numerous", "Issue fewer and less nested claims.";
    TokenClaimDuplicate = "ERR_TOKEN_CLAIM_DUPLICATE", 401, "Token repeats a claim", "Issue tokens that have each claim once.";
    TokenClaimMissing = "ERR_TOKEN_CLAIM_MISSING", 401, "Token lacks a required claim", "Issue tokens with the claim named in the error.";
    TokenClaimInvalid = "ERR_TOKEN_CLAIM_INVALID", 401, "Token claim has the wrong type", "Issue the claim named in the error with its type of RFC 7519.";
    TokenExpired = "ERR_TOKEN_EXPIRED", 401, "Token has expired", "Get a new token.";
    TokenNotYetValid = "ERR_TOKEN_NOT_YET_VALID", 401, "Token is not valid yet", "Wait, synchronize the clocks, or raise `clockToleranceSeconds`.";
    TokenIssuedInFuture = "ERR_TOKEN_ISSUED_IN_FUTURE", 401, "Token was issued in the future", "Synchronize the clocks, or raise `clockToleranceSeconds`.";
    TokenTooOld = "ERR_TOKEN_TOO_OLD", 401, "Token is too old", "Get a new token.";
    TokenIssuer = "ERR_TOKEN_ISSUER", 401, "Token comes from another issuer", "Use a token of the issuer that the verifier expects.";
    TokenAudience = "ERR_TOKEN_AUDIENCE", 401, "Token is meant for another audience", "Use a token that was issued for this service.";
    TokenSubject = "ERR_TOKEN_SUBJECT", 401, "Token names another subject", "Use a token of the subject that the verifier expects.";
    TokenRevoked = "ERR_TOKEN_REVOKED", 401, "Token has been revoked", "Get a new token.";
    TokenReplayed = "ERR_TOKEN_REPLAYED", 401, "Token was used before", "Get a new token for each use.";
    TokenReplayFull = "ERR_TOKEN_REPLAY_FULL", 503, "No more used tokens can be remembered", "Retry later, raise `replay.maxEntries`, or issue tokens with a shorter life.";
    TokenNonce = "ERR_TOKEN_NONCE", 401, "Token has another nonce", "Use the token that was issued for this request.";
    TokenScope = "ERR_TOKEN_SCOPE", 403, "Token lacks a required scope", "Get a token with the scopes that the verifier requires.";
    TokenRole = "ERR_TOKEN_ROLE", 403, "Token lacks a required role", "Give the user the roles that the verifier requires.";
    // JSON
    PayloadTooLarge = "ERR_PAYLOAD_TOO_LARGE", 413, "Payload too large", "Send less, or raise `maxBytes`.";
    PayloadNotJson = "ERR_PAYLOAD_NOT_JSON", 400, "Payload has a value that JSON cannot represent", "Send only null, booleans, finite numbers, strings, arrays and objects; no function, symbol, BigInt or undefined.";
    PayloadCycle = "ERR_PAYLOAD_CYCLE", 400, "Payload contains a cycle", "Remove the cycle.";
    PayloadThrows = "ERR_PAYLOAD_THROWS", 400, "Payload threw an error while it was read", "Send plain data: a getter, a proxy or `toJSON` of the payload threw.";
    JsonType = "ERR_JSON_TYPE", 400, "JSON must be a string or bytes", "Pass a string, a Buffer, an ArrayBuffer or a view of one.";
    JsonEncoding = "ERR_JSON_ENCODING", 400, "JSON is not valid UTF-8", "Send UTF-8 without a byte order mark.";
    JsonSyntax = "ERR_JSON_SYNTAX", 400, "Invalid JSON syntax", "Send JSON that conforms to RFC 8259.";
    JsonDepth = "ERR_JSON_DEPTH", 400, "JSON is nested too deeply", "Send less nested data, or raise `maxDepth`.";
    JsonValues = "ERR_JSON_VALUES", 413, "JSON has too many values", "Send fewer values, or raise `maxValues`.";
    JsonKeys = "ERR_JSON_KEYS", 413, "JSON object has too many keys", "Send fewer keys, or raise `maxKeys`.";
    JsonItems = "ERR_JSON_ITEMS", 413, "JSON array has too many items", "Send fewer items, or raise `maxItems`.";
    JsonStringLength = "ERR_JSON_STRING_LENGTH", 413, "JSON string too long", "Send shorter strings, or raise `maxStringBytes`.";
    JsonKeyLength = "ERR_JSON_KEY_LENGTH", 413, "JSON key too long", "Send shorter keys, or raise `maxKeyBytes`.";
    JsonDuplicateKey = "ERR_JSON_DUPLICATE_KEY", 400, "JSON object repeats a key", "Use each key once, or set `duplicateKeys: 'allow'`.";
    JsonForbiddenKey = "ERR_JSON_FORBIDDEN_KEY", 400, "JSON key could change a prototype", "Do not send `__proto__`, or a `constructor` that contains `prototype`; or set `forbiddenKeys: 'allow'`.";
    JsonNumberRange = "ERR_JSON_NUMBER_RANGE", 400, "JSON number is out of the range of a double", "Send the number as a string, or set `numberOverflow: 'allow'`.";
    JsonUnsafeInteger = "ERR_JSON_UNSAFE_INTEGER", 400, "JSON integer would lose digits", "Send integers beyond 2^53 as strings, or leave `unsafeIntegers` at 'allow'.";
    JsonSurrogate = "ERR_JSON_SURROGATE", 400, "JSON string has a lone surrogate", "Send complete surrogate pairs, or set `surrogates: 'allow'`.";
    JsonNul = "ERR_JSON_NUL", 400, "JSON string has a NUL character", "Send strings without U+0000, or leave `nul` at 'allow'.";
    // URLs
    UrlRequired = "ERR_URL_REQUIRED", 400, "URL is required", "Pass a URL.";
    UrlType = "ERR_URL_TYPE", 400, "URL must be a string", "Pass the URL as a string.";
    UrlTooLong = "ERR_URL_TOO_LONG", 414, "URL too long", "Shorten the URL, or raise `maxLength`.";
    UrlFormat = "ERR_URL_FORMAT", 400, "Invalid URL format", "Pass a URL that conforms to the WHATWG standard.";
    UrlForm = "ERR_URL_FORM", 400, "URL has a form that is not allowed here", "Pass an origin-form path as a request target, a path or an absolute URL as a redirect, an absolute URL to fetch.";
    UrlCharacter = "ERR_URL_CHARACTER", 400, "URL has a character that must be encoded", "Percent-encode spaces, control and non-ASCII characters.";
    UrlBackslash = "ERR_URL_BACKSLASH", 400, "URL has a backslash", "Use slashes; percent-encode an intended backslash.";
    UrlNetworkPath = "ERR_URL_NETWORK_PATH", 400, "URL path could be read as a host", "Start the path with one slash: two slashes start a host name.";
    UrlEncodedControl = "ERR_URL_ENCODED_CONTROL", 400, "URL has an encoded control character", "Remove encoded CR, LF and NUL, including doubly encoded ones.";
    UrlPercent = "ERR_URL_PERCENT", 400, "URL has a malformed percent code", "Write two hexadecimal digits of valid UTF-8 after each percent sign.";
    UrlTraversal = "ERR_URL_TRAVERSAL", 400, "URL path has a dot segment or an encoded separator", "Remove dot segments and encoded slashes, backslashes and dots.";
    UrlScheme = "ERR_URL_SCHEME", 400, "URL scheme is not allowed", "Use an allowed scheme.";
    UrlCredentials = "ERR_URL_CREDENTIALS", 400, "URL has credentials", "Remove the user name and password.";
    UrlPort = "ERR_URL_PORT", 400, "URL port is not allowed", "Use an allowed port.";
    UrlHost = "ERR_URL_HOST", 400, "URL host is not allowed", "Use an allowed host.";
    UrlAddressNotation = "ERR_URL_ADDRESS_NOTATION", 400, "URL host is an address in an unusual notation", "Write IPv4 as four decimal numbers, and IPv6 without a zone.";
    UrlAddress = "ERR_URL_ADDRESS", 400, "URL host is not a public address", "Use a host on the public internet.";
    UrlFragment = "ERR_URL_FRAGMENT", 400, "URL has a fragment", "Remove the fragment: it is not sent.";
    // Headers
    HeadersType = "ERR_HEADERS_TYPE", 400, "Headers must be an object, Headers or a raw list", "Pass a Headers object, a plain object, or Node's `rawHeaders`.";
    HeadersCount = "ERR_HEADERS_COUNT", 431, "Too many headers", "Send fewer headers, or raise `maxCount`.";
    HeadersTooLarge = "ERR_HEADERS_TOO_LARGE", 431, "Headers too large", "Send less, or raise `maxTotalBytes`.";
    HeaderName = "ERR_HEADER_NAME", 400, "Header name is not a token", "Use the characters of RFC 9110: letters, digits and !#$%&'*+-.^_`|~.";
    HeaderNameTooLong = "ERR_HEADER_NAME_TOO_LONG", 431, "Header name too long", "Use a shorter name, or raise `maxNameBytes`.";
    HeaderForbidden = "ERR_HEADER_FORBIDDEN", 400, "Header name could change a prototype", "Do not name a header `__proto__`.";
    HeaderValueType = "ERR_HEADER_VALUE_TYPE", 400, "Header value must be a string", "Pass strings, or arrays of strings.";
    HeaderValue = "ERR_HEADER_VALUE", 400, "Header value has a forbidden character", "Send HTAB, visible ASCII, space and obs-text only.";
    HeaderValueTooLong = "ERR_HEADER_VALUE_TOO_LONG", 431, "Header value too long", "Send a shorter value, or raise its limit.";
    HeaderSyntax = "ERR_HEADER_SYNTAX", 400, "Header value does not follow its grammar", "Send `Content-Length` as digits, `Host` as a host with an optional port, `Transfer-Encoding` with `chunked` at its end.";
    HeaderFraming = "ERR_HEADER_FRAMING", 400, "Content-Length beside Transfer-Encoding", "Send one of the two: readers disagree about the end of the body.";
    HeaderDuplicate = "ERR_HEADER_DUPLICATE", 400, "Header must not be repeated", "Send the header once.";
}

#[cfg(test)]
mod tests {
    use super::Failure;
    use std::collections::HashSet;

    #[test]
    fn every_failure_has_a_unique_code_and_all_texts() {
        let mut codes = HashSet::new();
        for (index, &failure) in Failure::ALL.iter().enumerate() {
            assert_eq!(failure as usize, index + 1);
            assert!(codes.insert(failure.code()), "{failure:?} twice");
            assert!(failure.code().starts_with("ERR_") && (400..600).contains(&failure.status()));
            assert!(!failure.meaning().ends_with('.') && failure.remedy().ends_with('.'));
            // The meaning is quoted in `WWW-Authenticate`, and stands in a cell of a table.
            assert!(!failure.meaning().contains(['"', '\\', '|']) && failure.meaning().is_ascii());
        }
    }
}
