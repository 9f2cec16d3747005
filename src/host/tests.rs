//! Tests of the host's counts: many mappings of one file stand for many processes.

use super::error::HostError;
use super::file::HostFile;
use super::key::{Key, Keys};
use super::layout::{LIMITS, Layout, MAGIC, VERSION, word};
use super::seats::HostSeats;
use super::table::{Claim, Count, HostTable, Refused};
use crate::connections::{
    Address, Admission, Holder, Limits, Mode, NO_LIMIT, Rate, Refusal, RefusalCode, SeatIndex,
    Shared, UserKey,
};
use proptest::prelude::*;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicI64, AtomicU32};
use std::thread;

/// A folder of one test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "portcullis-host-test-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, SeqCst)
        );
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).expect("a folder");
        Self(folder)
    }

    fn file(&self) -> PathBuf {
        self.0.join("seats")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const SMALL: Layout = Layout {
    columns: 16,
    buckets: 9,
};

fn table(path: &Path) -> HostTable {
    HostTable::new(HostFile::open(path, SMALL, &[0; LIMITS]).expect("a file"))
}

fn keys_of(table: &HostTable) -> Keys {
    Keys::new(table.file().secret(), table.file().layout())
}

fn address(number: u32) -> Address {
    Address::from_ip(std::net::Ipv4Addr::from(0xc000_0200 + number).into())
}

fn claim(key: Key, limit: u32) -> Claim<&'static str> {
    Claim {
        count: Count::Of(key),
        limit: Some(limit),
        code: "ip",
    }
}

/// A draw of numbers below a bound.
fn below(state: &mut u64, bound: u64) -> u64 {
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) % bound
}

/// Several threads of several processes take and give back seats of few keys, in a table so small
/// that rows change their keys all the time.
fn race(processes: usize, threads: usize, keys: u32, limit: u32, steps: usize, seed: u64) {
    let folder = Folder::new();
    let tables: Vec<_> = (0..processes).map(|_| table(&folder.file())).collect();
    let held: Vec<_> = (0..keys).map(|_| AtomicI64::new(0)).collect();
    let all = AtomicI64::new(0);
    let total = i64::from(limit) * i64::from(keys) / 2;
    thread::scope(|scope| {
        for at in 0..processes * threads {
            let (tables, held, all) = (&tables, &held, &all);
            scope.spawn(move || {
                let table = &tables[at % processes];
                let keys_of = keys_of(table);
                let mut random = seed.wrapping_mul(31).wrapping_add(at as u64);
                let mut own: Vec<u32> = Vec::new();
                for _ in 0..steps {
                    let gives = !own.is_empty() && below(&mut random, 5) < 2 + own.len() as u64 / 8;
                    if gives {
                        let number = own.swap_remove(below(&mut random, own.len() as u64) as usize);
                        held[number as usize].fetch_sub(1, SeqCst);
                        all.fetch_sub(1, SeqCst);
                        table.give(Count::Of(keys_of.address(address(number))));
                        table.give(Count::Total);
                        continue;
                    }
                    let number = below(&mut random, u64::from(keys)) as u32;
                    let claims = [
                        Claim {
                            count: Count::Total,
                            limit: Some(total as u32),
                            code: "total",
                        },
                        claim(keys_of.address(address(number)), limit),
                    ];
                    if table.take(&claims).is_ok() {
                        let seats = held[number as usize].fetch_add(1, SeqCst) + 1;
                        let seats_in_all = all.fetch_add(1, SeqCst) + 1;
                        assert!(seats <= i64::from(limit), "{seats} of {limit}");
                        assert!(seats_in_all <= total, "{seats_in_all} of {total}");
                        own.push(number);
                    }
                }
                for number in own {
                    held[number as usize].fetch_sub(1, SeqCst);
                    all.fetch_sub(1, SeqCst);
                    table.give(Count::Of(keys_of.address(address(number))));
                    table.give(Count::Total);
                }
            });
        }
    });
    let [first, ..] = tables.as_slice() else {
        return;
    };
    assert!(first.sums().iter().all(|sum| *sum == 0), "a seat is lost");
    let keys_of = keys_of(first);
    for number in 0..keys {
        let rows = first.rows_with(keys_of.address(address(number)));
        assert!(rows <= 1, "key {number} has {rows} rows");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Properties: no limit is ever passed, and at the end all sums are zero; a key has one row.
    #[test]
    fn racing_processes_pass_no_limit_and_lose_no_seat(
        processes in 1usize..5,
        threads in 1usize..3,
        keys in 1u32..400,
        limit in 1u32..4,
        seed in any::<u64>(),
    ) {
        race(processes, threads, keys, limit, 4000, seed);
    }
}

/// A step of the model: the process and what it does.
#[derive(Debug, Clone)]
enum Step {
    Reserve { address: u32, user: Option<u32> },
    Arrive { address: u32 },
    Identify { seat: usize, user: Option<u32> },
    Release { seat: usize },
    Rebind { seat: usize, user: u32 },
    Kill,
    Reclaim,
}

fn step() -> impl Strategy<Value = (usize, Step)> {
    let user = proptest::option::of(0u32..6);
    let act = prop_oneof![
        6 => (0u32..8, user.clone()).prop_map(|(address, user)| Step::Reserve { address, user }),
        3 => (0u32..8).prop_map(|address| Step::Arrive { address }),
        3 => (any::<usize>(), user).prop_map(|(seat, user)| Step::Identify { seat, user }),
        4 => any::<usize>().prop_map(|seat| Step::Release { seat }),
        3 => (any::<usize>(), 0u32..6).prop_map(|(seat, user)| Step::Rebind { seat, user }),
        1 => Just(Step::Kill),
        1 => Just(Step::Reclaim),
    ];
    (0usize..3, act)
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Who {
    Pending,
    Anonymous,
    User(u32),
}

/// Every third address is of IPv6, two of them in one prefix.
fn client(number: u32) -> Address {
    match number {
        0 => Address::UNKNOWN,
        1..4 => Address::parse(&format!("2001:db8:0:{}::{number}", number / 3)),
        _ => address(number),
    }
}

/// The naive model: all seats of all processes, those of killed ones until they are reclaimed.
#[derive(Default)]
struct Model {
    seats: Vec<(usize, u32, Who)>,
    dead: Vec<(u32, Who)>,
}

impl Model {
    fn count(&self, is: impl Fn(u32, Who) -> bool) -> u32 {
        let live = self
            .seats
            .iter()
            .filter(|(_, address, who)| is(*address, *who));
        let dead = self.dead.iter().filter(|(address, who)| is(*address, *who));
        (live.count() + dead.count()) as u32
    }

    fn door(&self, limits: &Limits, number: u32) -> Option<RefusalCode> {
        if self.count(|_, _| true) >= limits.total {
            return Some(RefusalCode::Total);
        }
        let prefix = client(number).prefix(limits.prefix_bits);
        let in_prefix = |other: u32| client(other).prefix(limits.prefix_bits) == prefix;
        if prefix.is_some() && self.count(|other, _| in_prefix(other)) >= limits.per_prefix {
            return Some(RefusalCode::Prefix);
        }
        let (limit, code) = if number == 0 {
            (limits.unknown, RefusalCode::Unknown)
        } else {
            (limits.per_ip, RefusalCode::Ip)
        };
        (self.count(|other, _| other == number) >= limit).then_some(code)
    }

    fn identity(&self, limits: &Limits, number: u32, user: Option<u32>) -> Option<RefusalCode> {
        let Some(user) = user else {
            let here = self.count(|other, who| other == number && who == Who::Anonymous);
            if here >= limits.anonymous_per_ip {
                return Some(RefusalCode::AnonymousIp);
            }
            let all = self.count(|_, who| who == Who::Anonymous);
            return (all >= limits.anonymous).then_some(RefusalCode::Anonymous);
        };
        let seats = self.count(|_, who| who == Who::User(user));
        (seats >= limits.per_user).then_some(RefusalCode::User)
    }
}

fn who(user: Option<u32>) -> Who {
    user.map_or(Who::Anonymous, Who::User)
}

fn name(seats: &HostSeats, user: u32) -> UserKey {
    seats.user_key(&[u16::try_from(user).expect("small"), 7])
}

fn limits() -> impl Strategy<Value = Limits> {
    let some = |most: u32| prop_oneof![3 => 0..most, 1 => Just(NO_LIMIT)];
    let counts = (
        some(12),
        some(4),
        some(5),
        some(4),
        some(6),
        some(3),
        some(3),
    );
    counts.prop_map(
        |(total, per_ip, per_prefix, per_user, anonymous, anonymous_per_ip, unknown)| Limits {
            total,
            per_ip,
            per_prefix,
            per_user,
            anonymous,
            anonymous_per_ip,
            unknown,
            ..Limits::default()
        },
    )
}

fn agrees(limits: Limits, steps: &[(usize, Step)]) -> Result<(), TestCaseError> {
    let folder = Folder::new();
    let open = || HostSeats::open(&folder.file(), SMALL, limits).expect("a file");
    // One that does nothing else keeps the file.
    let keeper = open();
    let mut processes = [open(), open(), open()];
    let mut model = Model::default();
    for (process, step) in steps {
        let seats = &processes[*process];
        let own = |at: usize| {
            let places = model.seats.iter().enumerate();
            let mine: Vec<_> = places
                .filter(|(_, seat)| seat.0 == *process)
                .map(|(at, _)| at)
                .collect();
            (!mine.is_empty()).then(|| mine[at % mine.len()])
        };
        let holder = |held: Who| match held {
            Who::Pending => Holder::Pending,
            Who::Anonymous => Holder::Anonymous,
            Who::User(user) => Holder::User(name(seats, user)),
        };
        match *step {
            Step::Reserve { address, user } => {
                let expected = model
                    .door(&limits, address)
                    .or_else(|| model.identity(&limits, address, user));
                let key = user.map(|user| name(seats, user));
                let verdict = seats.reserve(client(address), key, 0.0, None, false, Mode::Enforce);
                prop_assert_eq!(verdict.err().map(|refusal| refusal.code), expected);
                if expected.is_none() {
                    model.seats.push((*process, address, who(user)));
                }
            }
            Step::Arrive { address } => {
                let expected = model.door(&limits, address);
                let verdict = seats.arrive(client(address), 0.0, Mode::Enforce);
                prop_assert_eq!(verdict.err().map(|refusal| refusal.code), expected);
                if expected.is_none() {
                    model.seats.push((*process, address, Who::Pending));
                }
            }
            Step::Identify { seat, user } => {
                let Some(at) = own(seat).filter(|at| model.seats[*at].2 == Who::Pending) else {
                    continue;
                };
                let address = model.seats[at].1;
                let expected = model.identity(&limits, address, user);
                let key = user.map(|user| name(seats, user));
                let verdict = seats.identify(client(address), key, 0.0, false, Mode::Enforce);
                prop_assert_eq!(verdict.err().map(|refusal| refusal.code), expected);
                if expected.is_none() {
                    model.seats[at].2 = who(user);
                }
            }
            Step::Release { seat } => {
                let Some(at) = own(seat) else { continue };
                let (_, address, held) = model.seats.remove(at);
                seats.release(client(address), holder(held));
            }
            Step::Rebind { seat, user } => {
                let Some(at) = own(seat).filter(|at| model.seats[*at].2 != Who::Pending) else {
                    continue;
                };
                let (_, address, held) = model.seats[at];
                let expected = (held != Who::User(user))
                    .then(|| model.identity(&limits, address, Some(user)))
                    .flatten();
                let from = match held {
                    Who::User(from) => Some(name(seats, from)),
                    _ => None,
                };
                let verdict = seats.rebind(client(address), from, name(seats, user), Mode::Enforce);
                prop_assert_eq!(verdict.err().map(|refusal| refusal.code), expected);
                if expected.is_none() {
                    model.seats[at].2 = Who::User(user);
                }
            }
            Step::Kill => {
                // Clean columns are needed: see below.
                if keeper.host().is_some_and(|[_, _, columns]| columns > 12) {
                    keeper.reclaim();
                    model.dead.clear();
                }
                let gone = model.seats.extract_if(.., |seat| seat.0 == *process);
                model
                    .dead
                    .extend(gone.map(|(_, address, held)| (address, held)));
                // A clean column is taken first, so nothing of the dead one is zeroed.
                processes[*process] = open();
            }
            Step::Reclaim => {
                keeper.reclaim();
                model.dead.clear();
            }
        }
        let [total, anonymous, _] = keeper.host().expect("figures");
        prop_assert_eq!(total, model.count(|_, _| true));
        prop_assert_eq!(anonymous, model.count(|_, held| held == Who::Anonymous));
    }
    Ok(())
}

proptest! {
    /// Properties: every verdict is that of the naive model over all processes, and the totals agree
    /// after every step; a killed process holds its seats until they are reclaimed.
    #[test]
    fn agrees_with_a_naive_model(
        limits in limits(),
        steps in proptest::collection::vec(step(), 1..120),
    ) {
        agrees(limits, &steps)?;
    }

    /// Property: a file full of anything neither panics nor hangs, nor refuses without a limit or a
    /// full table.
    #[test]
    fn survives_a_file_full_of_anything(seed in any::<u64>()) {
        let folder = Folder::new();
        let table = table(&folder.file());
        let file = File::options().write(true).open(folder.file()).expect("the file");
        let mut random = seed;
        let garbage: Vec<u8> = (0..SMALL.bytes() - 256).map(|_| below(&mut random, 256) as u8).collect();
        file.write_all_at(&garbage, 256).expect("written");
        let keys = keys_of(&table);
        for number in 0..300 {
            let key = keys.address(address(number));
            let _ = table.take(&[claim(key, 3)]);
            table.give(Count::Of(key));
            table.file().reclaim();
        }
    }
}

#[test]
fn frees_the_seats_of_a_process_that_has_ended() {
    let folder = Folder::new();
    let (first, second) = (table(&folder.file()), table(&folder.file()));
    let key = keys_of(&first).address(address(1));
    assert_eq!(second.take(&[claim(key, 1)]), Ok(()));
    assert_eq!(first.take(&[claim(key, 1)]), Err(Refused::Limit("ip")));
    assert_eq!(first.file().reclaim(), 0, "its process lives");
    drop(second);
    assert_eq!(first.take(&[claim(key, 1)]), Err(Refused::Limit("ip")));
    assert_eq!(first.file().reclaim(), 1);
    assert_eq!(first.take(&[claim(key, 1)]), Ok(()));
    assert_eq!(first.file().processes(), 1);
}

#[test]
fn a_newcomer_takes_over_the_column_of_a_dead_process_with_zeros() {
    let folder = Folder::new();
    let first = table(&folder.file());
    let key = keys_of(&first).address(address(1));
    let others: Vec<_> = (1..SMALL.columns).map(|_| table(&folder.file())).collect();
    for other in &others {
        assert_eq!(other.take(&[claim(key, 100)]), Ok(()));
    }
    let Err(error) = HostFile::open(&folder.file(), SMALL, &[0; LIMITS]) else {
        panic!("a column too many");
    };
    assert_eq!(error, HostError::Full { columns: 16 });
    drop(others);
    let newcomer = table(&folder.file());
    assert_eq!(newcomer.file().column(), 1);
    assert_eq!(newcomer.count(Count::Of(key)), 14);
}

#[test]
fn a_key_that_several_processes_put_at_once_has_one_row() {
    let folder = Folder::new();
    let table = table(&folder.file());
    let keys = keys_of(&table);
    for (number, places) in [
        (1, [(0, 1), (0, 9)]),
        (2, [(1, 4), (0, 3)]),
        (3, [(1, 0), (1, 15)]),
    ] {
        let key = keys.address(address(number));
        for (bucket, at) in places {
            table.put(key.buckets[bucket] + at, key);
        }
        assert_eq!(table.take(&[claim(key, 1)]), Ok(()));
        assert_eq!(table.rows_with(key), 1);
        assert_eq!(table.take(&[claim(key, 1)]), Err(Refused::Limit("ip")));
        table.give(Count::Of(key));
        assert_eq!(table.count(Count::Of(key)), 0);
    }
}

#[test]
fn the_last_process_removes_the_file() {
    let folder = Folder::new();
    let (first, second) = (table(&folder.file()), table(&folder.file()));
    drop(first);
    assert!(folder.file().exists());
    drop(second);
    assert!(!folder.file().exists());
}

#[test]
fn a_full_table_refuses_new_keys_and_keeps_the_others() {
    let folder = Folder::new();
    let table = table(&folder.file());
    let keys = keys_of(&table);
    let (mut held, mut refused) = (Vec::new(), 0);
    for number in 0..200 {
        match table.take(&[claim(keys.address(address(number)), 2)]) {
            Ok(()) => held.push(number),
            Err(error) => {
                assert_eq!(error, Refused::NoRow);
                refused += 1;
            }
        }
    }
    // 128 rows for keys: all but a few are in use.
    assert!(held.len() >= 120 && refused >= 72, "{} held", held.len());
    for &number in &held {
        assert_eq!(
            table.take(&[claim(keys.address(address(number)), 2)]),
            Ok(())
        );
        assert_eq!(
            table.take(&[claim(keys.address(address(number)), 2)]),
            Err(Refused::Limit("ip"))
        );
    }
    for &number in &held {
        let count = Count::Of(keys.address(address(number)));
        table.give(count);
        table.give(count);
    }
    // Rows that nobody holds serve other keys.
    for number in 1000..1090 {
        assert_eq!(
            table.take(&[claim(keys.address(address(number)), 1)]),
            Ok(())
        );
    }
}

#[test]
fn a_table_has_room_for_the_keys_that_it_promises_again_and_again() {
    let folder = Folder::new();
    let layout = Layout::new(4096, 2);
    let file = HostFile::open(&folder.file(), layout, &[0; LIMITS]).expect("a file");
    let table = HostTable::new(file);
    let keys = keys_of(&table);
    let mut refused = 0;
    for round in 0..4 {
        for number in 0..4096 {
            let key = keys.address(address(number + round * 4096));
            refused += u32::from(table.take(&[claim(key, 1)]).is_err());
        }
        for number in 0..4096 {
            table.give(Count::Of(keys.address(address(number + round * 4096))));
        }
    }
    // The hashes are random: two full buckets are rare, not impossible.
    assert!(refused <= 4, "{refused} of 16384");
}

#[test]
fn a_table_has_room_for_the_keys_that_it_promises_as_they_come_and_go_one_by_one() {
    let folder = Folder::new();
    let layout = Layout::new(1024, 2);
    let file = HostFile::open(&folder.file(), layout, &[0; LIMITS]).expect("a file");
    let table = HostTable::new(file);
    let keys = keys_of(&table);
    let (mut live, mut refused, mut state) = (Vec::new(), 0, 1);
    for number in 0..100_000 {
        if live.len() == 1024 {
            let gone = live.swap_remove(below(&mut state, 1024) as usize);
            table.give(Count::Of(keys.address(address(gone))));
        }
        match table.take(&[claim(keys.address(address(number)), 1)]) {
            Ok(()) => live.push(number),
            Err(_) => refused += 1,
        }
    }
    // The hashes are random: two full buckets are rare, not impossible.
    assert!(refused <= 4, "{refused} of 100000");
}

fn error_of(path: &Path, layout: Layout) -> HostError {
    let opened = HostFile::open(path, layout, &[0; LIMITS]);
    opened.err().expect("it is refused")
}

fn problem_of(path: &Path) -> String {
    match error_of(path, SMALL) {
        HostError::File { problem, .. } => problem,
        other => other.to_string(),
    }
}

#[test]
fn refuses_files_that_are_not_its_own() {
    let folder = Folder::new();
    let path = folder.file();
    assert!(problem_of(&folder.0.join("none").join("seats")).contains("No such file"));
    fs::create_dir(&path).expect("a folder");
    assert!(problem_of(&path).contains("directory"));
    fs::remove_dir(&path).expect("gone");
    symlink("/dev/null", &path).expect("a link");
    assert_eq!(problem_of(&path), "it is a symbolic link");
    fs::remove_file(&path).expect("gone");
    fs::write(&path, "something else entirely").expect("a file");
    fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("a mode");
    assert!(problem_of(&path).contains("not of this package"));
    assert_eq!(
        fs::read(&path).expect("the file"),
        b"something else entirely"
    );
    fs::set_permissions(&path, Permissions::from_mode(0o644)).expect("a mode");
    assert!(problem_of(&path).contains("other users"));
    fs::remove_file(&path).expect("gone");
    let opened = table(&path);
    fs::hard_link(&path, folder.0.join("other")).expect("a link");
    assert_eq!(problem_of(&path), "it has a second name");
    drop(opened);
}

#[test]
fn refuses_a_file_that_running_processes_use_otherwise() {
    let folder = Folder::new();
    let path = folder.file();
    let running = table(&path);
    let other = |columns, buckets| error_of(&path, Layout { columns, buckets });
    let conflict = |field| HostError::Conflict { field };
    assert_eq!(other(32, 9), conflict("hostProcesses"));
    assert_eq!(other(16, 10), conflict("hostCapacity"));
    let file = File::options().write(true).open(&path).expect("the file");
    let put = |place: usize, value: u64| {
        file.write_all_at(&value.to_le_bytes(), place as u64 * 8)
            .expect("written");
    };
    put(word::VERSION, VERSION + 1);
    assert!(matches!(
        error_of(&path, SMALL),
        HostError::Version { found, own: VERSION, .. } if found == VERSION + 1
    ));
    put(word::MAGIC, 7);
    assert_eq!(problem_of(&path), "it is not of this package");
    put(word::MAGIC, MAGIC);
    file.set_len(10).expect("shorter");
    assert_eq!(problem_of(&path), "it was shortened");
    file.set_len(SMALL.bytes() as u64).expect("longer");
    drop(running);
}

#[test]
fn replaces_a_file_that_nobody_uses() {
    let folder = Folder::new();
    let path = folder.file();
    // Files of processes that were killed: of another version, of other sizes, or half of one.
    for (version, bytes) in [
        (VERSION + 1, 4096),
        (VERSION, 300),
        (0, 0),
        (VERSION, 100_000),
    ] {
        let mut left = vec![0; bytes];
        if bytes > 0 {
            left[..8].copy_from_slice(b"pcullis\0");
            left[8..16].copy_from_slice(&u64::to_le_bytes(version));
        }
        fs::write(&path, left).expect("a file");
        fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("a mode");
        let opened = table(&path);
        assert_eq!(
            fs::metadata(&path).expect("the file").len(),
            SMALL.bytes() as u64
        );
        assert!(opened.sums().iter().all(|sum| *sum == 0));
    }
}

#[test]
fn other_limits_than_those_of_running_processes_are_a_conflict() {
    let folder = Folder::new();
    let given = Limits {
        per_user: 3,
        ..Limits::default()
    };
    let running = HostSeats::open(&folder.file(), SMALL, given).expect("a file");
    let open = |limits| HostSeats::open(&folder.file(), SMALL, limits).err();
    let conflict = |field| Some(HostError::Conflict { field });
    assert_eq!(
        open(Limits {
            per_user: 4,
            ..given
        }),
        conflict("maxConnectionsPerUser")
    );
    assert_eq!(
        open(Limits { total: 4, ..given }),
        conflict("maxTotalConnections")
    );
    // Rates are each process's own.
    let ip_rate = Some(Rate {
        interval_ms: 10.0,
        burst: 2.0,
    });
    assert_eq!(open(Limits { ip_rate, ..given }), None);
    // A change is in force in all processes, and is no conflict for those that start as the others did.
    let other = HostSeats::open(&folder.file(), SMALL, given).expect("a column");
    running.change_limits(&|limits| limits.per_user = 1);
    let user = Some(other.user_key(&[1]));
    assert!(
        other
            .reserve(address(1), user, 0.0, None, false, Mode::Enforce)
            .is_ok()
    );
    assert!(
        other
            .reserve(address(1), user, 0.0, None, false, Mode::Enforce)
            .is_err()
    );
    assert!(HostSeats::open(&folder.file(), SMALL, given).is_ok());
    // A change of another limit leaves this one as it is.
    other.change_limits(&|limits| limits.total = 9);
    assert!(
        running
            .reserve(address(1), user, 0.0, None, false, Mode::Enforce)
            .is_err()
    );
    // A process sets the value that it began with.
    other.change_limits(&|limits| limits.per_user = 9);
    running.change_limits(&|limits| limits.per_user = 3);
    let in_force = Limits { total: 9, ..given };
    assert_eq!([running.limits(), other.limits()], [in_force; 2]);
    drop((running, other));
    assert_eq!(
        open(Limits {
            per_user: 9,
            ..given
        }),
        None
    );
}

#[test]
fn a_full_table_leaves_nothing_behind_in_any_step() {
    let folder = Folder::new();
    let limits = Limits {
        per_ip: 1000,
        per_user: 1000,
        ..Limits::default()
    };
    let seats = HostSeats::open(&folder.file(), SMALL, limits).expect("a file");
    let code = |verdict: Result<_, Refusal>| verdict.err().map(|refusal| refusal.code);
    let full = Some(RefusalCode::HostFull);
    assert!(seats.arrive(address(0), 0.0, Mode::Enforce).is_ok());
    let mut users = Vec::new();
    let mut refused = [0; 4];
    for number in 0..400 {
        let user = name(&seats, number);
        let before = (seats.counts(), seats.host());
        let verdicts = [
            seats.add_user(user, Mode::Enforce),
            seats.reserve(address(0), Some(user), 0.0, None, false, Mode::Enforce),
            seats.identify(address(0), Some(user), 0.0, false, Mode::Enforce),
        ];
        let [added, reserved, identified] = verdicts.map(|verdict| match code(verdict) {
            None => true,
            found => {
                assert_eq!(found, full);
                false
            }
        });
        refused[0] += u32::from(!added);
        refused[1] += u32::from(!reserved);
        refused[2] += u32::from(!identified);
        if added {
            seats.leave_user(Address::UNKNOWN, Some(user));
        }
        if reserved {
            seats.release(address(0), Holder::User(user));
        }
        if identified {
            users.push(user);
            // The next client of this address.
            assert!(seats.arrive(address(0), 0.0, Mode::Enforce).is_ok());
        } else {
            assert_eq!((seats.counts(), seats.host()), before);
        }
    }
    for number in 1000..1400 {
        let before = (seats.counts(), seats.host());
        match code(seats.arrive(address(number), 0.0, Mode::Enforce)) {
            None => seats.release(address(number), Holder::Pending),
            found => {
                assert_eq!(found, full);
                refused[3] += 1;
            }
        }
        assert_eq!((seats.counts(), seats.host()), before);
    }
    assert!(refused.iter().all(|count| *count >= 200), "{refused:?}");
    for user in users {
        seats.release(address(0), Holder::User(user));
    }
    seats.release(address(0), Holder::Pending);
    assert_eq!((seats.counts(), seats.host()), ([0; 4], Some([0, 0, 1])));
}

#[test]
fn a_refusal_by_a_limit_spends_no_rate() {
    let folder = Folder::new();
    let rate = Some(Rate {
        interval_ms: 1e6,
        burst: 3.0,
    });
    let limits = Limits {
        per_ip: 1,
        per_user: 1,
        ip_rate: rate,
        user_rate: rate,
        ..Limits::default()
    };
    let open = || HostSeats::open(&folder.file(), SMALL, limits).expect("a file");
    let (seats, other) = (open(), open());
    let user = name(&seats, 1);
    let reserve = |number| {
        let verdict = seats.reserve(address(number), Some(user), 1.0, None, false, Mode::Enforce);
        verdict.err().map(|refusal| refusal.code)
    };
    assert!(
        other
            .reserve(address(1), None, 1.0, None, false, Mode::Enforce)
            .is_ok()
    );
    for _ in 0..10 {
        assert_eq!(reserve(1), Some(RefusalCode::Ip));
        let arrived = seats.arrive(address(1), 1.0, Mode::Enforce);
        assert_eq!(
            arrived.err().map(|refusal| refusal.code),
            Some(RefusalCode::Ip)
        );
    }
    other.release(address(1), Holder::Anonymous);
    assert!(
        other
            .reserve(address(2), Some(user), 1.0, None, false, Mode::Enforce)
            .is_ok()
    );
    assert!(seats.arrive(address(3), 1.0, Mode::Enforce).is_ok());
    for _ in 0..10 {
        let identified = seats.identify(address(3), Some(user), 1.0, false, Mode::Enforce);
        assert_eq!(
            identified.err().map(|refusal| refusal.code),
            Some(RefusalCode::User)
        );
    }
    other.release(address(2), Holder::User(user));
    // All three of the address, of which the refusals have spent none.
    for _ in 0..3 {
        assert_eq!(reserve(1), None);
        seats.release(address(1), Holder::User(user));
    }
    assert_eq!(reserve(1), Some(RefusalCode::IpRate));
}

#[test]
fn observed_limits_are_noted_in_the_order_of_one_process() {
    let folder = Folder::new();
    let rate = Some(Rate {
        interval_ms: 1e6,
        burst: 1.0,
    });
    let limits = Limits {
        per_ip: 2,
        per_user: 1,
        ip_rate: rate,
        user_rate: rate,
        ..Limits::default()
    };
    let host = HostSeats::open(&folder.file(), SMALL, limits).expect("a file");
    let own = SeatIndex::<Shared>::new(limits);
    let codes = |seats: &dyn Admission| {
        let user = seats.user_key(&[1]);
        [1, 1, 1, 2].map(|number| {
            let mode = Mode::Observe;
            let verdict = seats.reserve(address(number), Some(user), 1.0, None, false, mode);
            verdict.expect("nothing is refused")
        })
    };
    let expected = [
        None,
        Some(RefusalCode::IpRate),
        Some(RefusalCode::Ip),
        Some(RefusalCode::User),
    ];
    assert_eq!([codes(&host), codes(&own)], [expected; 2]);
}

#[test]
fn another_rate_in_the_same_process_is_a_difference() {
    let folder = Folder::new();
    let limits = Limits::default();
    let seats = HostSeats::open(&folder.file(), SMALL, limits).expect("a file");
    let message_ip_rate = Some(Rate {
        interval_ms: 1.0,
        burst: 1.0,
    });
    let other = Limits {
        message_ip_rate,
        ..limits
    };
    assert_eq!(seats.difference(SMALL, &limits), None);
    assert_eq!(seats.difference(SMALL, &other), Some("messageRatePerIp"));
}
