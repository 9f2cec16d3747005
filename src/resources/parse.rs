//! Parsers of the kernel's texts. Each takes a whole file and returns `None` if it does not have
//! the documented form (proc(5), `Documentation/admin-guide/cgroup-v2.rst`,
//! `Documentation/accounting/psi.rst`): a figure is right or absent.

/// Scheduler figures of a thread: `/proc/self/task/<tid>/schedstat`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Scheduled {
    /// Time on a CPU, ns.
    pub on_cpu_ns: u64,
    /// Time ready to run but waiting for a CPU, ns.
    pub waited_ns: u64,
    /// Number of times that it was put on a CPU.
    pub runs: u64,
}

/// Parses `on_cpu waited runs`.
#[must_use]
pub fn parse_scheduled(text: &str) -> Option<Scheduled> {
    let mut numbers = text.split_ascii_whitespace().map(|word| word.parse().ok());
    Some(Scheduled {
        on_cpu_ns: numbers.next()??,
        waited_ns: numbers.next()??,
        runs: numbers.next()??,
    })
}

/// The system call a thread is in: `/proc/self/task/<tid>/syscall`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SystemCall {
    /// On a CPU, or ready to run.
    Running,
    /// Asleep outside of a system call, such as in a page fault.
    Outside,
    /// Asleep in a system call.
    In {
        /// Number of the call, which depends on the architecture.
        number: u32,
        /// First argument; a file descriptor for most calls.
        first: u64,
    },
}

/// Parses `running`, `-1 …`, or `number 0x… …`.
#[must_use]
pub fn parse_system_call(text: &str) -> Option<SystemCall> {
    let mut words = text.split_ascii_whitespace();
    match words.next()? {
        "running" => Some(SystemCall::Running),
        "-1" => Some(SystemCall::Outside),
        number => Some(SystemCall::In {
            number: number.parse().ok()?,
            first: hexadecimal(words.next()?)?,
        }),
    }
}

fn hexadecimal(word: &str) -> Option<u64> {
    u64::from_str_radix(word.strip_prefix("0x")?, 16).ok()
}

/// Clock ticks per second in `/proc`: `USER_HZ`, which is 100 on every architecture that Linux
/// supports since 2.6, except for Alpha and IA-64.
const USER_HZ: u64 = 100;

/// Parses the CPU time in user and kernel mode from `/proc/self/stat`, ns.
pub(super) fn process_cpu_ns(text: &str) -> Option<u64> {
    // The name stands in parentheses and may contain any character, parentheses included.
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    let user: u64 = fields.nth(11)?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    user.checked_add(system)?
        .checked_mul(1_000_000_000 / USER_HZ)
}

/// Parses the value of `key:`, in bytes, from `/proc/self/status` or `/proc/meminfo`, which count
/// in kB.
pub(super) fn kilobytes(text: &str, key: &str) -> Option<u64> {
    let value = field(text, key)?;
    let mut words = value.split_ascii_whitespace();
    let number: u64 = words.next()?.parse().ok()?;
    (words.next() == Some("kB")).then(|| number.checked_mul(1024))?
}

/// Returns the text after `key:` on a line of its own.
pub(super) fn field<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))
        .map(str::trim)
}

/// Parses the three load averages of `/proc/loadavg`.
pub(super) fn load(text: &str) -> Option<[f64; 3]> {
    let mut words = text.split_ascii_whitespace();
    let mut next = || {
        let load: f64 = words.next()?.parse().ok()?;
        (load.is_finite() && load >= 0.0).then_some(load)
    };
    Some([next()?, next()?, next()?])
}

/// Counts the members of a list such as `0-3,8`.
pub(super) fn list_length(list: &str) -> Option<u32> {
    let mut length = 0u32;
    for part in list.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        length = length.checked_add(last.checked_sub(first)?.checked_add(1)?)?;
    }
    Some(length)
}

/// Parses the number after `key ` on a line of its own: `memory.stat`, `cpu.stat`, `memory.events`.
pub(super) fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(' ')?;
        if name == key {
            value.trim().parse().ok()
        } else {
            None
        }
    })
}

/// Pressure stall information (PSI): the share of time in which some task, or all tasks, waited for
/// a resource.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Pressure {
    /// Percent of the last 10 s in which some task waited.
    pub some_10: f64,
    /// Percent of the last 60 s in which some task waited.
    pub some_60: f64,
    /// Percent of the last 10 s in which all tasks waited; the kernel has no such figure for the
    /// CPU of a system.
    pub full_10: Option<f64>,
}

/// Parses `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`, then `full …`.
pub(super) fn pressure(text: &str) -> Option<Pressure> {
    let average = |kind: &str, name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(kind))?;
        let word = line
            .split_ascii_whitespace()
            .find_map(|word| word.strip_prefix(name))?;
        word.parse()
            .ok()
            .filter(|share: &f64| share.is_finite() && *share >= 0.0)
    };
    Some(Pressure {
        some_10: average("some ", "avg10=")?,
        some_60: average("some ", "avg60=")?,
        full_10: average("full ", "avg10="),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lines_of_the_kernel_are_parsed() {
        assert_eq!(
            parse_scheduled("972062 45718 2\n"),
            Some(Scheduled {
                on_cpu_ns: 972_062,
                waited_ns: 45_718,
                runs: 2
            })
        );
        assert_eq!(parse_system_call("running\n"), Some(SystemCall::Running));
        assert_eq!(
            parse_system_call("-1 0x7ffc 0x7f0\n"),
            Some(SystemCall::Outside)
        );
        assert_eq!(
            parse_system_call("281 0xe 0x7f06 0x400 0x0 0x0 0x8 0x7ffd 0x7f\n"),
            Some(SystemCall::In {
                number: 281,
                first: 14,
            })
        );
        let stat = "77 (a) b) (c) S 1 77 77 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 11 0 5 1 2";
        assert_eq!(process_cpu_ns(stat), Some(3_000_000_000));
        assert_eq!(
            kilobytes("VmHWM:\t 9 kB\nVmRSS:\t    1700 kB\n", "VmRSS"),
            Some(1700 * 1024)
        );
        assert_eq!(list_length("0-3,8,10-11\n"), Some(7));
        assert_eq!(keyed("anon 5\nanon_thp 9\n", "anon_thp"), Some(9));
        let psi = "some avg10=1.50 avg60=0.25 avg300=0.00 total=7\nfull avg10=0.50 avg60=0.00 avg300=0.00 total=1\n";
        assert_eq!(
            pressure(psi),
            Some(Pressure {
                some_10: 1.5,
                some_60: 0.25,
                full_10: Some(0.5)
            })
        );
    }

    #[test]
    fn malformed_texts_are_none() {
        for text in [
            "",
            "\n",
            "x",
            "1",
            "1 2",
            "1 2 x",
            "-1 2 3",
            "1e3 2 3",
            "99999999999999999999 1 1",
        ] {
            assert_eq!(parse_scheduled(text), None, "{text:?}");
        }
        for text in ["", "sleeping", "281", "281 e", "-2 0x1", "4294967296 0x1"] {
            assert_eq!(parse_system_call(text), None, "{text:?}");
        }
        for text in [
            "",
            "77 (node",
            "77 (node) S 1 2",
            "77 (node) S 1 2 3 4 5 6 7 8 9 10 11 -4 7",
        ] {
            assert_eq!(process_cpu_ns(text), None, "{text:?}");
        }
        for text in [
            "",
            "VmRSS",
            "VmRSS:",
            "VmRSS: kB",
            "VmRSS: 5",
            "VmRSS: 5 MB",
            "VmRSS: 99999999999999999999 kB",
        ] {
            assert_eq!(kilobytes(text, "VmRSS"), None, "{text:?}");
        }
        for text in ["", "-", "3-1", "a", "1,,2", "0-4294967295"] {
            assert_eq!(list_length(text), None, "{text:?}");
        }
        for text in [
            "",
            "some",
            "some avg10=nan avg60=0",
            "some avg10=-1 avg60=0",
            "full avg10=1 avg60=1",
        ] {
            assert_eq!(pressure(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_a_parser_panic(text in "\\PC{0,80}", lines in "[ -~\n]{0,80}") {
            for text in [&text, &lines] {
                let _ = (parse_scheduled(text), parse_system_call(text), process_cpu_ns(text), pressure(text));
                let _ = (kilobytes(text, "VmRSS"), list_length(text), keyed(text, "anon"), field(text, "a"));
            }
        }
    }
}
