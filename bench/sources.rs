//! Compares the cost of the sources of figures: our own reading of `/proc`, the `sysinfo` crate, and
//! the combination that is in use.
//!
//! `cargo run --profile test --no-default-features --example sources`
#![expect(clippy::print_stdout, reason = "a command")]
#![expect(clippy::disallowed_methods, reason = "measures time")]

#[cfg(not(target_os = "linux"))]
fn main() {
    println!("Linux only: elsewhere there is one source");
}

#[cfg(target_os = "linux")]
fn main() {
    use portcullis::resources::Source;
    use std::hint::black_box;
    use std::time::Instant;

    const ROUNDS: u32 = 15;
    const CALLS: u32 = 200;

    /// Returns the least time of a call over all rounds, µs.
    fn cost(act: &dyn Fn()) -> f64 {
        (0..ROUNDS)
            .map(|_| {
                let start = Instant::now();
                (0..CALLS).for_each(|_| act());
                start.elapsed().as_secs_f64() * 1e6 / f64::from(CALLS)
            })
            .fold(f64::INFINITY, f64::min)
    }

    fn table(title: &str) {
        println!("{title}");
        println!(
            "| source | process, each second | machine, each 5 s | rare, each minute | open files |"
        );
        println!("| --- | --- | --- | --- | --- |");
        for (name, source) in portcullis::sampler::sources() {
            let source: &dyn Source = &*source;
            source.process();
            let costs = [
                cost(&|| _ = black_box(source.process())),
                cost(&|| _ = black_box(source.machine())),
                cost(&|| _ = black_box(source.rare())),
                cost(&|| _ = black_box(source.open_files())),
            ];
            let cells: Vec<String> = costs.iter().map(|us| format!("{us:.1} µs")).collect();
            println!("| {name} | {} |", cells.join(" | "));
        }
    }

    table("few open files");
    let held: Vec<_> = (0..10_000)
        .map_while(|_| std::fs::File::open("/dev/null").ok())
        .collect();
    table(&format!("{} more open files", held.len()));
}
