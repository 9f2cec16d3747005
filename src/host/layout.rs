//! The places of everything in the file, from its two sizes.
//!
//! ```text
//!  0      magic, version, columns, buckets, secret (2), used columns        8 bytes each
//!  128    limits that the first process declared                           8 bytes each
//!  256    limits in force                                                  8 bytes each
//!  1024   state of each column                                             4 bytes each
//!  4096   words: one for each row, 16 rows a bucket                        8 bytes each
//!  ...    cells: for each row one for each column                          4 bytes each
//! ```
//! The rows of bucket 0 are no key's: they hold the totals.

/// Rows of a bucket: their words are two cache lines.
pub const BUCKET_ROWS: usize = 16;
/// Most columns of a file.
pub const COLUMNS_MAX: usize = 256;
/// Most keys of a file.
pub const CAPACITY_MAX: usize = 1 << 24;
/// Limits in the header.
pub const LIMITS: usize = 8;

/// Marks a file of this module.
pub const MAGIC: u64 = u64::from_le_bytes(*b"pcullis\0");
/// Version of the layout. A process uses a file of its own version only.
pub const VERSION: u64 = 1;

/// Places of the header, in words of 8 bytes.
pub mod word {
    /// `MAGIC`, written last.
    pub const MAGIC: usize = 0;
    /// `VERSION`.
    pub const VERSION: usize = 1;
    /// Columns.
    pub const COLUMNS: usize = 2;
    /// Buckets.
    pub const BUCKETS: usize = 3;
    /// The secret of the hashes, two words.
    pub const SECRET: usize = 4;
    /// One more than the highest column that was ever used.
    pub const USED: usize = 6;
    /// Limits that the first process declared.
    pub const DECLARED: usize = 16;
    /// Limits in force.
    pub const IN_FORCE: usize = 32;
}

/// Bytes of the header.
pub const HEADER_BYTES: usize = 4096;
/// Where the states of the columns begin, bytes.
pub const STATES_AT: usize = 1024;

/// The two sizes of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Columns: processes at once.
    pub columns: usize,
    /// Buckets, that of the totals included.
    pub buckets: usize,
}

impl Layout {
    /// Returns the layout for so many keys and processes. Half as many rows again as keys:
    /// a key has two buckets, and finds both full only when nearly all rows are held.
    #[must_use]
    pub fn new(capacity: usize, processes: usize) -> Self {
        let rows = capacity.clamp(1, CAPACITY_MAX).div_ceil(2) * 3;
        Self {
            // Whole cache lines for the cells of a row.
            columns: processes.clamp(1, COLUMNS_MAX).next_multiple_of(16),
            buckets: 1 + rows.div_ceil(BUCKET_ROWS).max(2),
        }
    }

    /// Returns the rows, those of the totals included.
    #[must_use]
    pub const fn rows(self) -> usize {
        self.buckets * BUCKET_ROWS
    }

    /// Returns where the cells begin, bytes.
    #[must_use]
    pub const fn cells_at(self) -> usize {
        HEADER_BYTES + self.rows() * 8
    }

    /// Returns the size of the file, bytes.
    #[must_use]
    pub const fn bytes(self) -> usize {
        self.cells_at() + self.rows() * self.columns * 4
    }
}
