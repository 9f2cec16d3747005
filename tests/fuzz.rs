//! Runs the fuzz targets' checks on the stable toolchain: on the committed seeds, and on mutations
//! of them for some seconds. `FUZZ_ROUNDS` sets the number of mutations, `FUZZ_SEED` chooses them.

use std::path::Path;

#[path = "../fuzz/checks/forwarded.rs"]
mod forwarded;
#[path = "../fuzz/checks/handshake.rs"]
mod handshake;

/// Pieces that mean something to the parsers.
const PIECES: &[&str] = &[
    ",",
    ";",
    ":",
    "\n",
    "\"",
    "[",
    "]",
    "%",
    "=",
    " ",
    "\t",
    "::",
    "::ffff:",
    "for=",
    "For=\"[",
    "192.0.2.1",
    "10.0.0.1",
    "2001:db8::1",
    "fe80::1%eth0",
    ":65536",
    ":0",
    "unknown",
    "_hidden",
    "X-Forwarded-For:",
    "Forwarded:",
    "Authorization: Bearer ",
    "Upgrade: websocket",
    ".",
    "..",
    "é",
    "\u{0}",
    "eyJhbGciOiJIUzI1NiJ9",
    "eyJhbGciOiJub25lIn0.e30.",
];

/// A generator of pseudo-random numbers (xorshift), the same for each seed.
struct Random(u64);

impl Random {
    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % most.max(1) as u64) as usize
    }

    fn mutate(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = seeds[self.below(seeds.len())].clone();
        for _ in 0..=self.below(6) {
            let at = self.below(bytes.len() + 1);
            match self.below(5) {
                0 => drop(bytes.splice(at..at, PIECES[self.below(PIECES.len())].bytes())),
                1 => bytes.truncate(at),
                2 if at < bytes.len() => bytes[at] = self.below(256) as u8,
                3 => {
                    let end = at + self.below(bytes.len() - at + 1);
                    drop(bytes.drain(at..end));
                }
                _ => {
                    let other = &seeds[self.below(seeds.len())];
                    let from = self.below(other.len() + 1);
                    drop(bytes.splice(at..at, other[from..].iter().copied()));
                }
            }
        }
        // Long enough to pass the bound of a header's length.
        bytes.truncate(10_000);
        bytes
    }
}

fn number(name: &str, fallback: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(fallback)
}

fn run(target: &str, check: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(target);
    let mut paths: Vec<_> = std::fs::read_dir(folder)
        .expect("the corpus")
        .map(|entry| entry.expect("a seed").path())
        .collect();
    paths.sort();
    let seeds: Vec<Vec<u8>> = paths
        .iter()
        .map(|path| std::fs::read(path).expect("a seed"))
        .collect();
    assert!(seeds.len() >= 10, "seeds of {target}");
    for seed in &seeds {
        check(seed);
    }
    let mut random = Random(number("FUZZ_SEED", 0x9e37_79b9_7f4a_7c15) | 1);
    for _ in 0..number("FUZZ_ROUNDS", 500_000) {
        let bytes = random.mutate(&seeds);
        let outcome = std::panic::catch_unwind(|| check(&bytes));
        assert!(
            outcome.is_ok(),
            "{target}: {:?}",
            String::from_utf8_lossy(&bytes)
        );
    }
}

#[test]
fn forwarded_headers_hold_their_properties() {
    run("forwarded", forwarded::check);
}

#[test]
fn headers_of_a_handshake_hold_their_properties() {
    run("handshake", handshake::check);
}
