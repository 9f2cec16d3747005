//! Tests of the table against a naive model, and of its leases and sweeps.

use super::super::leases::ENDED_MIN;
use super::super::limits::RefusalCode;
use super::*;
use proptest::prelude::*;
use std::sync::Arc;

fn own(limits: Limits) -> Table {
    Table::new(Scope::Own(Box::new(SeatIndex::new(limits))))
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Who {
    Pending,
    Anonymous,
    User(u8),
}

fn who(user: Option<u8>) -> Who {
    user.map_or(Who::Anonymous, Who::User)
}

#[derive(Debug, Clone, Copy)]
struct Row {
    slot: u32,
    generation: u32,
    ip: u8,
    who: Who,
}

#[derive(Debug, Clone)]
enum Action {
    /// Opens a connection, which may replace another one.
    Admit(u8, Option<u8>, Option<usize>),
    Arrive(u8),
    Identify(usize, Option<u8>),
    Release(usize),
    Bind(usize, u8),
}

fn action() -> impl Strategy<Value = Action> {
    let user = || proptest::option::of(0u8..4);
    prop_oneof![
        3 => (0u8..7, user(), proptest::option::weighted(0.3, any::<usize>()))
            .prop_map(|(ip, user, at)| Action::Admit(ip, user, at)),
        2 => (0u8..7).prop_map(Action::Arrive),
        2 => (any::<usize>(), user()).prop_map(|(at, user)| Action::Identify(at, user)),
        2 => any::<usize>().prop_map(Action::Release),
        1 => (any::<usize>(), 0u8..4).prop_map(|(at, user)| Action::Bind(at, user)),
    ]
}

fn ip(number: u8) -> String {
    // Two prefixes of two addresses each, two IPv4 addresses, and the unknown address.
    match number {
        0..4 => format!("2001:db8:0:{}::{}", number / 2, number),
        4..6 => format!("10.0.0.{number}"),
        _ => "unknown".to_owned(),
    }
}

const LIMITS: Limits = Limits {
    total: 9,
    per_ip: 3,
    per_prefix: 4,
    per_user: 3,
    anonymous: 5,
    anonymous_per_ip: 2,
    unknown: 2,
    prefix_bits: 64,
    ip_rate: None,
    user_rate: None,
    message_user_rate: None,
    message_ip_rate: None,
};

/// The limits without an identity, of a list from which the replaced row has been removed.
fn refused_at_door(rows: &[Row], number: u8) -> Option<RefusalCode> {
    let count = |test: &dyn Fn(&Row) -> bool| rows.iter().filter(|row| test(row)).count();
    if rows.len() >= 9 {
        Some(RefusalCode::Total)
    } else if number < 4 && count(&|row| row.ip < 4 && row.ip / 2 == number / 2) >= 4 {
        Some(RefusalCode::Prefix)
    } else if number == 6 && count(&|row| row.ip == 6) >= 2 {
        Some(RefusalCode::Unknown)
    } else if number != 6 && count(&|row| row.ip == number) >= 3 {
        Some(RefusalCode::Ip)
    } else {
        None
    }
}

fn refused_by_identity(rows: &[Row], number: u8, user: Option<u8>) -> Option<RefusalCode> {
    let count = |test: &dyn Fn(&Row) -> bool| rows.iter().filter(|row| test(row)).count();
    match user {
        Some(_) if count(&|row| row.who == who(user)) >= 3 => Some(RefusalCode::User),
        None if count(&|row| row.ip == number && row.who == Who::Anonymous) >= 2 => {
            Some(RefusalCode::AnonymousIp)
        }
        None if count(&|row| row.who == Who::Anonymous) >= 5 => Some(RefusalCode::Anonymous),
        _ => None,
    }
}

fn newcomer(number: u8, name: Option<&[u16]>) -> Newcomer<'_> {
    Newcomer {
        address: Address::parse(&ip(number)),
        user: name,
        now: 0.0,
        replaces: None,
        claimable: 0,
    }
}

/// Applies the actions to a table and to a list of rows. Limits that are only observed refuse
/// nothing, and name the refusal of the list.
fn agrees(table: &mut Table, actions: Vec<Action>, observes: bool) -> Result<(), TestCaseError> {
    table.grow(256);
    let mut model: Vec<Row> = Vec::new();
    for action in actions {
        match action {
            Action::Admit(number, user, replaced) => {
                let live: Vec<usize> = (0..model.len())
                    .filter(|&at| table.live(model[at].slot).is_some())
                    .collect();
                let replaced = replaced
                    .filter(|_| !live.is_empty())
                    .map(|at| live[at % live.len()]);
                let mut rest = model.clone();
                if let Some(at) = replaced {
                    rest.remove(at);
                }
                let expected = refused_at_door(&rest, number)
                    .or_else(|| refused_by_identity(&rest, number, user));
                let name = user.map(|user| [u16::from(user)]);
                let got = table.reserve(
                    &Newcomer {
                        replaces: replaced.map(|at| model[at].slot),
                        ..newcomer(number, name.as_ref().map(|name| &name[..]))
                    },
                    State::Live,
                );
                check(&got, expected, observes)?;
                if let Ok(Admitted { slot, .. }) = got {
                    if let Some(at) = replaced {
                        let old = model.remove(at);
                        prop_assert!(table.release(old.slot, old.generation));
                    }
                    let generation = table.generation(slot);
                    model.push(Row {
                        slot,
                        generation,
                        ip: number,
                        who: who(user),
                    });
                }
            }
            Action::Arrive(number) => {
                let expected = refused_at_door(&model, number);
                let got = table.arrive(Address::parse(&ip(number)), 0.0);
                check(&got, expected, observes)?;
                if let Ok(Admitted { slot, .. }) = got {
                    let generation = table.generation(slot);
                    model.push(Row {
                        slot,
                        generation,
                        ip: number,
                        who: Who::Pending,
                    });
                }
            }
            Action::Identify(at, user) if !model.is_empty() => {
                let at = at % model.len();
                let Row {
                    slot,
                    generation,
                    ip: number,
                    who: before,
                } = model[at];
                let name = user.map(|user| [u16::from(user)]);
                let name = name.as_ref().map(|name| &name[..]);
                let got = table.identify(slot, generation, name, 0.0, 0);
                if before != Who::Pending {
                    prop_assert_eq!(got, Ok(None));
                    continue;
                }
                let expected = refused_by_identity(&model, number, user);
                match got {
                    Ok(None) => prop_assert!(false, "the handle is not stale"),
                    Ok(Some(admitted)) => {
                        check(&Ok(admitted), expected, observes)?;
                        model[at].who = who(user);
                    }
                    Err(refusal) => {
                        check(&Err(refusal), expected, observes)?;
                        prop_assert!(!table.release(slot, generation));
                        model.swap_remove(at);
                    }
                }
            }
            Action::Release(at) if !model.is_empty() => {
                let row = model.swap_remove(at % model.len());
                prop_assert!(table.release(row.slot, row.generation));
                prop_assert!(!table.release(row.slot, row.generation));
            }
            Action::Bind(at, user) if !model.is_empty() => {
                let at = at % model.len();
                let row = model[at];
                if row.who == Who::Pending {
                    continue;
                }
                let others = model
                    .iter()
                    .filter(|row| row.who == Who::User(user))
                    .count();
                let allowed = observes || row.who == Who::User(user) || others < 3;
                let got = table.bind_user(row.slot, row.generation, &[u16::from(user)]);
                prop_assert_eq!(got.is_ok(), allowed);
                if allowed {
                    model[at].who = Who::User(user);
                }
            }
            _ => {}
        }
        let distinct = |mut keys: Vec<u8>| {
            keys.sort_unstable();
            keys.dedup();
            keys.len() as u32
        };
        let users = model.iter().filter_map(|row| match row.who {
            Who::User(user) => Some(user),
            _ => None,
        });
        prop_assert_eq!(
            table.index().counts(),
            [
                model.len() as u32,
                distinct(model.iter().map(|row| row.ip).collect()),
                distinct(users.collect()),
                model.iter().filter(|row| row.who == Who::Anonymous).count() as u32,
            ]
        );
    }
    Ok(())
}

fn check(
    got: &Result<Admitted, Refusal>,
    expected: Option<RefusalCode>,
    observes: bool,
) -> Result<(), TestCaseError> {
    match got {
        Ok(admitted) => {
            prop_assert!(observes || expected.is_none());
            prop_assert_eq!(admitted.observed, expected);
            prop_assert!(!admitted.claims);
        }
        Err(refusal) => prop_assert_eq!((Some(refusal.code), observes), (expected, false)),
    }
    Ok(())
}

proptest! {
    /// Properties: the same outcomes and counts as a list of (ip, user); stale handles change
    /// nothing; a dropped table leaves no seat taken.
    #[test]
    fn agrees_with_a_list(actions in proptest::collection::vec(action(), 1..200)) {
        agrees(&mut own(LIMITS), actions.clone(), false)?;
        let mut observing = own(LIMITS);
        observing.set_mode(Mode::Observe);
        agrees(&mut observing, actions.clone(), true)?;
        let index = Arc::new(SeatIndex::new(LIMITS));
        let mut table = Table::new(Scope::Named(index.clone()));
        agrees(&mut table, actions, false)?;
        drop(table);
        prop_assert_eq!(index.counts(), [0, 0, 0, 0]);
    }
}

#[test]
fn threads_never_exceed_a_limit_and_leave_no_seat_taken() {
    let index = Arc::new(SeatIndex::new(Limits {
        total: 50,
        per_ip: 7,
        per_user: 5,
        ..Limits::default()
    }));
    std::thread::scope(|scope| {
        for seed in 0..4u32 {
            let index = index.clone();
            scope.spawn(move || {
                let mut table = Table::new(Scope::Named(index.clone()));
                table.grow(64);
                let mut held = Vec::new();
                let mut random = seed + 1;
                for _ in 0..20_000 {
                    random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    let pick = random >> 16;
                    if held.len() < 60 && pick % 2 == 0 {
                        let address = Address::parse(&format!("10.0.0.{}", pick % 9));
                        let name = [(pick % 13) as u16];
                        let newcomer = Newcomer {
                            address,
                            ..newcomer(0, Some(&name))
                        };
                        // Half of them in two steps, whose seats overlap with those of others.
                        let got = if pick % 4 == 0 {
                            table.reserve(&newcomer, State::Live)
                        } else {
                            table
                                .arrive(address, 0.0)
                                .and_then(|Admitted { slot, .. }| {
                                    let generation = table.generation(slot);
                                    table
                                        .identify(slot, generation, Some(&name), 0.0, 0)
                                        .map(|admitted| admitted.unwrap())
                                })
                        };
                        if let Ok(Admitted { slot, .. }) = got {
                            held.push(slot);
                        }
                    } else if let Some(slot) = held.pop() {
                        assert!(table.release(slot, table.generation(slot)));
                    }
                    assert!(index.counts()[0] <= 50);
                }
            });
        }
    });
    assert_eq!(index.counts(), [0, 0, 0, 0]);
}

#[test]
fn a_sweep_finds_idle_slots_only() {
    let mut table = own(Limits::default());
    table.grow(8);
    for slot in 0..4 {
        assert_eq!(reserved(&mut table, State::Reserved), slot);
    }
    for slot in 0..3 {
        assert_eq!(table.commit(slot, 0), Outcome::Done);
    }
    let stamps = [0, 950, 499, 0, 0, 0, 0, 0].map(AtomicU32::new);
    let mut due = [0; 8];
    let (count, next) = table.sweep(1_000, 500, 0, &stamps, &mut due);
    assert_eq!((&due[..count], next), (&[0, 2][..], 8));
    assert!(stamps[3..].iter().all(|stamp| stamp.load(Relaxed) == 1_000));
    // A full list returns the slot to continue from.
    let stamps = [0, 0, 0, 0].map(AtomicU32::new);
    let (count, next) = table.sweep(1_000, 500, 0, &stamps, &mut due[..2]);
    assert_eq!((count, next), (2, 2));
    // Ages stay right when the clock wraps around.
    let stamps = [u32::MAX - 400, u32::MAX - 10, 10, 10].map(AtomicU32::new);
    let (count, _) = table.sweep(200, 500, 0, &stamps, &mut due);
    assert_eq!(&due[..count], &[0]);
}

fn reserved(table: &mut Table, state: State) -> u32 {
    table.reserve(&newcomer(6, None), state).unwrap().slot
}

#[test]
fn a_lease_expires_unless_it_was_committed() {
    let mut table = own(Limits::default());
    table.grow(8);
    for slot in 0..3 {
        assert_eq!(reserved(&mut table, State::Reserved), slot);
        table.lease(slot, slot * 10);
    }
    assert_eq!(table.commit(0, 0), Outcome::Done);
    assert!(!table.expire(30, 20, 20));
    assert_eq!((table.taken(), table.generation(0)), (3, 0));
    table.expire(31, 20, 20);
    assert_eq!(
        (table.taken(), table.generation(1), table.generation(2)),
        (2, 1, 0)
    );
    assert_eq!(table.commit(1, 0), Outcome::Stale);
    // Another connection uses the slot by now: the expired lease must not touch it.
    assert_eq!(reserved(&mut table, State::Live), 1);
    table.expire(1_000, 20, 20);
    assert_eq!(table.taken(), 2);
}

#[test]
fn a_client_that_is_not_identified_has_its_own_time() {
    let mut table = own(Limits::default());
    table.grow(8);
    let slot = table.arrive(Address::UNKNOWN, 0.0).unwrap().slot;
    table.lease(slot, 0);
    table.expire(500, 20, 1_000);
    assert_eq!(table.taken(), 1);
    // The lease of an identified client begins anew.
    assert!(table.identify(slot, 0, None, 0.0, 0).unwrap().is_some());
    table.lease(slot, 500);
    table.expire(520, 20, 1_000);
    assert_eq!(table.taken(), 1);
    table.expire(521, 20, 1_000);
    assert_eq!((table.taken(), table.queued()), (0, 0));
}

#[test]
fn the_queue_of_leases_stays_as_short_as_the_leases_under_way() {
    let mut table = own(Limits::default());
    table.grow(4_096);
    // Far more a second than one call of `expire` handles.
    for second in 0..60u32 {
        for _ in 0..10_000 {
            let slot = reserved(&mut table, State::Reserved);
            table.lease(slot, second * 1_000);
            assert!(table.release(slot, table.generation(slot)));
            assert!(table.queued() <= 2 * ENDED_MIN + 2);
        }
    }
    // Leases that nobody ends expire on time, whatever their number is.
    for _ in 0..4_000 {
        let slot = reserved(&mut table, State::Reserved);
        table.lease(slot, 60_000);
    }
    while table.expire(70_001, 10_000, 10_000) {}
    assert_eq!((table.taken(), table.queued()), (0, 0));
}

#[test]
fn a_user_claims_no_more_connections_than_there_are() {
    let limits = Limits {
        per_user: 2,
        ..Limits::default()
    };
    let mut table = own(limits);
    table.grow(16);
    let name = [7u16];
    let claim = |table: &mut Table, state| {
        table.reserve(
            &Newcomer {
                claimable: 2,
                ..newcomer(4, Some(&name))
            },
            state,
        )
    };
    for _ in 0..2 {
        table
            .reserve(&newcomer(4, Some(&name)), State::Live)
            .unwrap();
    }
    let first = claim(&mut table, State::Reserved).unwrap();
    let second = claim(&mut table, State::Reserved).unwrap();
    assert!(first.claims && second.claims);
    assert_eq!(
        claim(&mut table, State::Reserved).unwrap_err().code,
        RefusalCode::User
    );
    // A lease that is given back gives its claim back.
    assert!(table.release(first.slot, table.generation(first.slot)));
    let third = claim(&mut table, State::Reserved).unwrap();
    assert_eq!(
        table.commit(third.slot, table.generation(third.slot)),
        Outcome::Over
    );
    // The older connections have gone: the last claim closes nobody.
    for slot in [0, 1] {
        assert!(table.release(slot, 0));
    }
    assert_eq!(
        table.commit(second.slot, table.generation(second.slot)),
        Outcome::Done
    );
    assert_eq!(table.index().counts()[0], 2);
}
