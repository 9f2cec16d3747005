//! The limits of a scan.

/// Greatest nesting that `max_depth` may allow.
pub const DEPTH_MAX: usize = 512;

/// The limits of a scan. They are inclusive: a count equal to its limit passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JsonLimits {
    /// Bytes of the whole text; at most 2^31 - 1 are ever read.
    pub max_bytes: usize,
    /// Nesting of arrays and objects: `[]` is 1. At most [`DEPTH_MAX`].
    pub max_depth: usize,
    /// Values in total: scalars, arrays and objects.
    pub max_values: usize,
    /// Keys of one object.
    pub max_keys: usize,
    /// Items of one array.
    pub max_items: usize,
    /// Bytes of one string value between its quotes, as written.
    pub max_string_bytes: usize,
    /// Bytes of one key between its quotes, as written.
    pub max_key_bytes: usize,
    /// Refuses objects with a repeated key.
    pub unique_keys: bool,
    /// Refuses `__proto__`, and a `constructor` that contains `prototype`.
    pub safe_keys: bool,
    /// Refuses numbers that overflow to infinity.
    pub finite_numbers: bool,
    /// Refuses integers beyond 2^53.
    pub safe_integers: bool,
    /// Refuses escapes of lone surrogates.
    pub whole_characters: bool,
    /// Refuses `\u0000`.
    pub no_nul: bool,
    /// Refuses a byte order mark before the text, which is skipped otherwise.
    pub no_byte_order_mark: bool,
}

impl Default for JsonLimits {
    fn default() -> Self {
        Self {
            max_bytes: 1 << 20,
            max_depth: 64,
            max_values: 100_000,
            max_keys: 10_000,
            max_items: usize::MAX,
            max_string_bytes: usize::MAX,
            max_key_bytes: 256,
            unique_keys: true,
            safe_keys: true,
            finite_numbers: true,
            safe_integers: false,
            whole_characters: true,
            no_nul: false,
            no_byte_order_mark: true,
        }
    }
}
