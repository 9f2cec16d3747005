//! The limits of one scan.

/// The deepest nesting that any limit may allow.
pub const DEPTH_MAX: usize = 512;

/// What a scan allows. Counts are inclusive: a count equal to its limit passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JsonLimits {
    /// Bytes of the whole text; at most 2^31 - 1 are ever read.
    pub max_bytes: usize,
    /// Arrays and objects within each other: `[]` is 1. At most [`DEPTH_MAX`].
    pub max_depth: usize,
    /// Values in all: scalars, arrays and objects.
    pub max_values: usize,
    /// Keys of one object.
    pub max_keys: usize,
    /// Items of one array.
    pub max_items: usize,
    /// Bytes of one string value between its quotes, as written.
    pub max_string_bytes: usize,
    /// Bytes of one key between its quotes, as written.
    pub max_key_bytes: usize,
    /// Refuse an object that repeats a key.
    pub unique_keys: bool,
    /// Refuse `__proto__`, and a `constructor` that holds `prototype`.
    pub safe_keys: bool,
    /// Refuse numbers that become infinite.
    pub finite_numbers: bool,
    /// Refuse integers beyond 2^53.
    pub safe_integers: bool,
    /// Refuse escapes of half a surrogate pair.
    pub whole_characters: bool,
    /// Refuse `\u0000`.
    pub no_nul: bool,
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
        }
    }
}
