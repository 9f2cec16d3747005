//! The table against its rules, and the list.

use super::table::Table;
use super::{Ban, BanList, Cause, Settings};
use crate::connections::Address;
use crate::error::Error;
use proptest::prelude::*;

fn settings(max_addresses: usize) -> Settings {
    Settings {
        failures: 3,
        window_ms: 700,
        ban_ms: 1000,
        max_ban_ms: 5000,
        forget_ms: 9000,
        max_addresses,
        prefix_bits: 64,
    }
}

fn address(at: u8) -> Address {
    Address::parse(&format!("192.0.2.{at}"))
}

/// One address of the model: every failure since the latest ban, and no other state than its rules
/// need.
#[derive(Debug, Clone, Default)]
struct Known {
    at: u8,
    failures: Vec<i64>,
    total: u32,
    bans: u32,
    since: i64,
    until: i64,
    last: i64,
}

/// The rules, without any order or hash: everything is searched.
struct Model {
    settings: Settings,
    known: Vec<Known>,
    evicted: u64,
}

impl Model {
    /// A failure counts while the seventh of a window that it fell into is one of the latest eight.
    fn counts(&self, failure: i64, now: i64) -> bool {
        let part = |time: i64| time * 7 / i64::from(self.settings.window_ms);
        part(failure) + 8 > part(now)
    }

    fn is_forgotten(&self, one: &Known, now: i64) -> bool {
        let kept = if one.bans > 0 {
            self.settings.forget_ms
        } else {
            0
        };
        one.until + i64::from(kept) <= now && !one.failures.iter().any(|at| self.counts(*at, now))
    }

    fn find(&self, at: u8) -> Option<usize> {
        self.known.iter().position(|one| one.at == at)
    }

    /// Returns an address as the rules see it.
    fn known(&self, at: u8, now: i64) -> Known {
        match self.find(at).map(|place| self.known[place].clone()) {
            Some(one) if !self.is_forgotten(&one, now) => Known {
                bans: if one.until + i64::from(self.settings.forget_ms) <= now {
                    0
                } else {
                    one.bans
                },
                ..one
            },
            _ => Known {
                at,
                ..Known::default()
            },
        }
    }

    fn put(&mut self, one: Known, now: i64) {
        match self.find(one.at) {
            Some(place) => self.known[place] = one,
            None => {
                self.make_room(now);
                self.known.push(one);
            }
        }
    }

    /// Returns the address that a new one may replace: the oldest failure first, then the ban that ends first.
    fn victim(&self, now: i64) -> Option<usize> {
        let rank = |one: &Known| {
            let is_active = one.until > now;
            (
                is_active,
                if is_active { one.until } else { one.last },
                one.at,
            )
        };
        (0..self.known.len()).min_by_key(|place| rank(&self.known[*place]))
    }

    fn make_room(&mut self, now: i64) {
        for _ in 0..2 {
            match self.victim(now) {
                Some(place) if self.is_forgotten(&self.known[place], now) => {
                    self.known.remove(place);
                }
                _ => break,
            }
        }
        if self.known.len() == self.settings.max_addresses
            && let Some(place) = self.victim(now)
        {
            self.known.remove(place);
            self.evicted += 1;
        }
    }

    fn left(&self, at: u8, now: i64) -> i64 {
        let found = self.find(at).map(|place| self.known[place].until);
        found.map_or(0, |until| until.saturating_sub(now).max(0))
    }

    fn fail(&mut self, at: u8, now: i64) -> Option<i64> {
        let mut one = self.known(at, now);
        if one.until > now {
            return None;
        }
        one.failures.push(now);
        one.total += 1;
        one.last = now;
        let count = one
            .failures
            .iter()
            .filter(|at| self.counts(**at, now))
            .count();
        let is_banned = count >= self.settings.failures as usize;
        if is_banned {
            let doubled = i64::from(self.settings.ban_ms) << one.bans.min(20);
            one.since = now;
            one.until = now + doubled.min(i64::from(self.settings.max_ban_ms));
            one.bans += 1;
            one.failures.clear();
        }
        let until = one.until;
        self.put(one, now);
        is_banned.then_some(until)
    }

    fn ban(&mut self, at: u8, for_ms: i64, now: i64) {
        let mut one = self.known(at, now);
        one.failures.clear();
        (one.last, one.since, one.until) = (now, now, now + for_ms);
        self.put(one, now);
    }

    fn learn(&mut self, at: u8, since: i64, until: i64, bans: u32, now: i64) {
        let mut one = self.known(at, now);
        one.bans = one.bans.max(bans);
        if one.until <= now || since > one.since + 10 {
            one.failures.clear();
            (one.last, one.since, one.until) = (now, since, until);
        }
        self.put(one, now);
    }

    fn lift(&mut self, at: u8, now: i64) -> bool {
        let was_banned = self.left(at, now) > 0;
        self.known.retain(|one| one.at != at);
        was_banned
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// A table agrees with the rules, whatever happens, also when it is full.
    #[test]
    fn agrees_with_a_naive_model(
        steps in proptest::collection::vec((0u8..12, 1u8..9, prop_oneof![4 => 0i64..60, 2 => 0i64..900, 1 => 0i64..12_000]), 1..400),
        max_addresses in 1usize..9,
    ) {
        let settings = settings(max_addresses);
        let mut table = Table::new(settings);
        let mut model = Model { settings, known: Vec::new(), evicted: 0 };
        let mut now = 0;
        for (step, at, gap) in steps {
            now += gap;
            let network = address(at);
            match step {
                0 => {
                    table.ban(network, gap + 1, now);
                    model.ban(at, gap + 1, now);
                }
                1 => prop_assert_eq!(table.lift(network, now).is_some(), model.lift(at, now)),
                2 => {
                    let bans = u32::from(at % 4);
                    let since = now - gap * i64::from(at % 3);
                    let ban = Ban { network, since_ms: since, until_ms: now + gap + 1, failures: 0, bans, cause: Cause::Cluster };
                    table.learn(ban, 10, now);
                    model.learn(at, since, now + gap + 1, bans, now);
                }
                3 => {
                    let mut listed: Vec<_> = table.list(usize::MAX, now).iter().map(|ban| (ban.network.bits(), ban.since_ms, ban.until_ms, ban.bans)).collect();
                    let mut expected: Vec<_> = model.known.iter().filter(|one| one.until > now).map(|one| (address(one.at).bits(), one.since, one.until, one.bans)).collect();
                    listed.sort_unstable();
                    expected.sort_unstable();
                    prop_assert_eq!(listed, expected);
                    let all = table.list(usize::MAX, now);
                    let few = table.list(usize::from(at) / 2, now);
                    prop_assert_eq!(few.as_slice(), &all[..few.len()]);
                    prop_assert_eq!(few.len(), all.len().min(usize::from(at) / 2));
                }
                _ => {
                    let banned = table.fail(network, now);
                    prop_assert_eq!(banned.map(|ban| ban.until_ms), model.fail(at, now));
                }
            }
            for other in 1..9 {
                prop_assert_eq!(table.left_ms(address(other), now), model.left(other, now));
            }
            let counts = table.counts(now);
            prop_assert_eq!((counts.addresses, counts.evicted), (model.known.len(), model.evicted));
            table.check();
        }
    }
}

fn fails(list: &mut BanList, ip: &str, times: u32, now: i64) -> Option<Ban> {
    (0..times)
        .filter_map(|_| list.fail(Address::parse(ip), now))
        .last()
}

fn open(settings: Settings) -> BanList {
    BanList::open(None, settings).expect("a list of its own conflicts with none")
}

#[test]
fn bans_double_up_to_the_longest_and_begin_anew_after_a_quiet_time() {
    let mut list = open(settings(10));
    let mut now = 0;
    let mut lengths = Vec::new();
    for _ in 0..5 {
        let ban = fails(&mut list, "192.0.2.1", 3, now).expect("banned");
        lengths.push(ban.until_ms - ban.since_ms);
        assert_eq!(fails(&mut list, "192.0.2.1", 50, ban.until_ms - 1), None);
        assert_eq!(
            list.left_ms(Address::parse("192.0.2.1"), ban.until_ms - 1),
            1
        );
        now = ban.until_ms;
        assert_eq!(list.left_ms(Address::parse("192.0.2.1"), now), 0);
    }
    assert_eq!(lengths, [1000, 2000, 4000, 5000, 5000]);
    let later = fails(&mut list, "192.0.2.1", 3, now + 8999).expect("banned");
    assert_eq!(later.until_ms - later.since_ms, 5000);
    let quiet = fails(&mut list, "192.0.2.1", 3, later.until_ms + 9000).expect("banned");
    assert_eq!((quiet.until_ms - quiet.since_ms, quiet.bans), (1000, 1));
}

#[test]
fn failures_count_for_a_window_and_at_most_a_seventh_longer() {
    let mut list = open(settings(10));
    assert_eq!(fails(&mut list, "192.0.2.1", 2, 0), None);
    assert!(fails(&mut list, "192.0.2.1", 1, 700).is_some());
    assert_eq!(fails(&mut list, "192.0.2.2", 2, 0), None);
    assert_eq!(fails(&mut list, "192.0.2.2", 1, 800), None);
}

#[test]
fn the_machine_itself_and_unknown_addresses_are_never_banned() {
    let mut list = open(settings(10));
    for ip in [
        "127.0.0.1",
        "127.9.9.9",
        "::1",
        "::ffff:127.0.0.1",
        "64:ff9b::7f00:1",
        "unix",
        "",
        "x",
    ] {
        assert_eq!(fails(&mut list, ip, 9, 0), None, "{ip}");
        assert_eq!(list.ban(Address::parse(ip), 1000, 0), None, "{ip}");
    }
    assert_eq!(list.counts(0).addresses, 0);
}

#[test]
fn an_ipv6_network_counts_as_one_address() {
    let mut list = open(settings(10));
    for last in 1..=2 {
        assert_eq!(fails(&mut list, &format!("2001:db8::{last}"), 1, 0), None);
    }
    let ban = fails(&mut list, "2001:db8::3", 1, 0).expect("banned");
    assert_eq!(list.text(ban.network), "2001:db8::/64");
    assert!(list.left_ms(Address::parse("2001:db8::ffff"), 0) > 0);
    assert_eq!(list.left_ms(Address::parse("2001:db8:0:1::1"), 0), 0);
    let ban = list
        .ban(Address::parse("::ffff:192.0.2.9"), 5, 0)
        .expect("banned");
    assert_eq!(list.text(ban.network), "192.0.2.9");
    let ban = list.ban(Address::parse("fd00::9"), 5, 0).expect("banned");
    assert_eq!(list.text(ban.network), "fd00::9");
}

#[test]
fn a_full_table_keeps_bans_through_a_flood_of_fresh_addresses() {
    let mut list = open(Settings {
        max_ban_ms: 1 << 30,
        ban_ms: 1 << 30,
        ..settings(1000)
    });
    for at in 0..999u32 {
        assert!(
            fails(
                &mut list,
                &format!("10.1.{}.{}", at >> 8, at & 255),
                3,
                i64::from(at)
            )
            .is_some()
        );
    }
    for at in 0..50_000u32 {
        assert_eq!(
            fails(
                &mut list,
                &format!("10.2.{}.{}", at >> 8, at & 255),
                2,
                1000
            ),
            None
        );
    }
    let counts = list.counts(1000);
    assert_eq!(
        (counts.active, counts.addresses, counts.evicted),
        (999, 1000, 49_999)
    );
}

#[test]
fn threads_of_one_name_share_their_bans() {
    let shared = settings(1000);
    let held = BanList::open("shared".into(), shared).expect("open");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut list = BanList::open("shared".into(), shared).expect("open");
                for at in 0..200u8 {
                    list.fail(address(at), 0);
                }
            });
        }
    });
    let counts = held.counts(0);
    // Failures after the third change nothing.
    assert_eq!(
        (counts.active, counts.failures, counts.banned),
        (200, 600, 200)
    );
    let other = BanList::open(
        "shared".into(),
        Settings {
            failures: 4,
            ..shared
        },
    );
    let conflict = Error::BansConflict {
        field: "banAfter.failures",
    };
    assert_eq!(other.err(), Some(conflict));
}
