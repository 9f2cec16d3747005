//! Figures of the process that only an exposition asks for: sizes of memory, open files.

use super::parse::kilobytes;

/// Sizes and files of the process; `None` where the host has no such figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ProcessFiles {
    /// Virtual memory, bytes.
    pub virtual_bytes: Option<u64>,
    /// Data segment, bytes.
    pub data_bytes: Option<u64>,
    /// Greatest number of open files; `None` also if there is no limit.
    pub max_files: Option<u64>,
}

impl ProcessFiles {
    /// Reads the figures from the texts of `/proc/self/status` and `/proc/self/limits`.
    #[must_use]
    pub fn parse(status: &str, limits: &str) -> Self {
        let limit = limits
            .lines()
            .find_map(|line| line.strip_prefix("Max open files"))
            .and_then(|rest| rest.split_ascii_whitespace().next());
        Self {
            virtual_bytes: kilobytes(status, "VmSize"),
            data_bytes: kilobytes(status, "VmData"),
            max_files: limit.and_then(|word| word.parse().ok()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Name:\tnode\nVmSize:\t 1069540 kB\nVmRSS:\t 1 kB\nVmData:\t  89464 kB\n";
    const LIMITS: &str = "Limit                     Soft Limit           Hard Limit           Units     \n\
                          Max processes             unlimited            unlimited            processes \n\
                          Max open files            1024                 1048576              files     \n";

    #[test]
    fn sizes_and_limits_are_read() {
        let found = ProcessFiles::parse(STATUS, LIMITS);
        assert_eq!(found.virtual_bytes, Some(1_069_540 * 1024));
        assert_eq!(found.data_bytes, Some(89_464 * 1024));
        assert_eq!(found.max_files, Some(1024));
    }

    #[test]
    fn malformed_texts_have_no_figures() {
        for (status, limits) in [
            ("", ""),
            (
                "VmSize: 1 MB\nVmData: -1 kB\n",
                "Max open files unlimited unlimited files\n",
            ),
            ("VmSize\nVmData:\n", "Max open files"),
            ("VmSize: 99999999999999999999 kB", "Max open files x"),
        ] {
            assert_eq!(ProcessFiles::parse(status, limits), ProcessFiles::default());
        }
    }
}
