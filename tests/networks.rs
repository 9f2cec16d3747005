//! Compares admission of IPv4 and IPv6 clients with a naive model that knows only the names of their
//! networks.

use portcullis::connections::{
    Address, EXEMPT, Limits, Newcomer, Rate, Scope, SeatIndex, State, Table,
};
use proptest::prelude::*;
use std::collections::HashMap;

/// Addresses, with the address and the network that the model counts.
const ADDRESSES: [(&str, &str, &str); 15] = [
    ("2001:db8::1", "a1", "a"),
    ("2001:db8:0:0:ffff::2", "a2", "a"),
    ("[2001:db8::2]:80", "a3", "a"),
    ("2001:db8:0:1::1", "b1", "b"),
    // Local addresses are counted one by one.
    ("fe80::1%eth0", "l1", "l1"),
    ("fe80::2", "l2", "l2"),
    ("fd00::1", "u1", "u1"),
    ("fd00::2", "u2", "u2"),
    ("192.0.2.1", "v1", "v1"),
    ("::ffff:192.0.2.1", "v1", "v1"),
    ("64:ff9b::192.0.2.1", "v1", "v1"),
    ("64:ff9b::192.0.2.2", "v2", "v2"),
    ("192.0.2.2", "v2", "v2"),
    // Not the well-known prefix: a network of its own.
    ("64:ff9b:1::1", "n1", "n"),
    ("64:ff9b:1::2", "n2", "n"),
];
const HAS_PREFIX: [&str; 3] = ["a", "b", "n"];

/// A connection: slot, generation, address and network.
type Row = (u32, u32, &'static str, &'static str);

#[derive(Debug, Clone)]
enum Action {
    Reserve(usize),
    /// As a client that no limit of its keys refuses.
    ReserveExempt(usize),
    Release(usize),
    Wait(u32),
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        4 => (0..ADDRESSES.len()).prop_map(Action::Reserve),
        1 => (0..ADDRESSES.len()).prop_map(Action::ReserveExempt),
        2 => any::<usize>().prop_map(Action::Release),
        1 => (1u32..150).prop_map(Action::Wait),
    ]
}

fn newcomer(text: &str, now: f64) -> Newcomer<'static> {
    Newcomer {
        address: Address::parse(text),
        user: None,
        now,
        replaces: None,
        claimable: 0,
    }
}

proptest! {
    /// Properties: addresses of one prefix share its limit and its connect rate; local addresses and
    /// translated IPv4 addresses share nothing with their neighbours; exempt clients are counted, but
    /// neither refused nor part of a rate.
    #[test]
    fn agrees_with_a_list_of_networks(
        actions in proptest::collection::vec(action(), 1..200),
        per_prefix in 2u32..6,
        has_rate in any::<bool>(),
    ) {
        let rate = Rate { interval_ms: 100.0, burst: 3.0 };
        let mut table = Table::new(Scope::Own(Box::new(SeatIndex::new(Limits {
            per_ip: 3,
            per_prefix,
            ip_rate: has_rate.then_some(rate),
            ..Limits::default()
        }))));
        table.grow(256);
        let mut now = 1_000.0;
        let mut held = Vec::<Row>::new();
        // Milliseconds of the rate that each network has left, and the time of that figure.
        let mut budgets = HashMap::<&str, (f64, f64)>::new();
        for action in actions {
            match action {
                Action::Wait(ms) => now += f64::from(ms),
                Action::Release(at) if !held.is_empty() => {
                    let (slot, generation, ..) = held.swap_remove(at % held.len());
                    prop_assert!(table.release(slot, generation));
                }
                Action::Release(_) => {}
                Action::ReserveExempt(at) => {
                    let (text, address, network) = ADDRESSES[at];
                    let got = table.reserve(&newcomer(text, EXEMPT), State::Live);
                    let slot = got.expect("no limit holds").slot;
                    held.push((slot, table.generation(slot), address, network));
                }
                Action::Reserve(at) => {
                    let (text, address, network) = ADDRESSES[at];
                    let count = |test: &dyn Fn(&Row) -> bool| {
                        held.iter().filter(|row| test(row)).count() as u32
                    };
                    let (left, at) = budgets.get(network).copied().unwrap_or((300.0, now));
                    let left = (left + now - at).min(300.0);
                    let fits = (!HAS_PREFIX.contains(&network)
                        || count(&|row| row.3 == network) < per_prefix)
                        && count(&|row| row.2 == address) < 3
                        && (!has_rate || left >= 100.0);
                    let got = table.reserve(&newcomer(text, now), State::Live);
                    prop_assert_eq!(got.is_ok(), fits, "{} at {}: {:?}", text, now, got);
                    if let Ok(admitted) = got {
                        let slot = admitted.slot;
                        held.push((slot, table.generation(slot), address, network));
                        budgets.insert(network, (left - 100.0, now));
                    }
                }
            }
            let mut addresses: Vec<_> = held.iter().map(|row| row.2).collect();
            addresses.sort_unstable();
            addresses.dedup();
            prop_assert_eq!(table.index().counts()[..2].to_vec(), vec![held.len() as u32, addresses.len() as u32]);
        }
    }
}
