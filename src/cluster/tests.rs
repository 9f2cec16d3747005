//! Several members (`world`) against a naive server in memory (`server`); time, losses and delays are random.
//! The members admit no client over a limit, and answer each one in time. At rest all counts agree.

use super::code::{CLOSED, CONFLICT, DONE, DRAINING, GRANTED, UNREACHABLE};
use super::core::{Client, Core, State};
use super::request::{Outcome, Request};
use super::script::Script;
use super::settings::{ClusterLimits, Policy};
use proptest::prelude::*;
use server::text;
use world::{ADMIT_MS, LEASE_MS, MEMBERS, Message, PER_USER, Shape, Step, World, settings, step};

mod server;
mod world;

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn nobody_is_admitted_over_a_limit_whatever_is_lost(
        steps in prop::collection::vec(step(), 1..250),
        delay in 1..4u8,
    ) {
        let mut world = World::new();
        world.delay = f64::from(delay);
        world.wait(1500);
        for step in &steps {
            world.step(step);
        }
        world.rest();
    }

    #[test]
    fn a_newcomer_that_replaces_another_one_passes_no_limit(
        steps in prop::collection::vec(step(), 1..250),
        delay in 1..4u8,
        slowness in 0..150u8,
    ) {
        let mut world = World::with(Shape { closes_oldest: true, ..Shape::default() });
        world.delay = f64::from(delay);
        world.slowness = f64::from(slowness);
        world.wait(1500);
        for step in &steps {
            world.step(step);
        }
        world.rest();
    }

    #[test]
    fn all_counts_agree_at_rest_after_a_policy_has_decided(
        steps in prop::collection::vec(step(), 1..250),
        is_share in any::<bool>(),
        closes_oldest in any::<bool>(),
        slowness in 0..150u8,
    ) {
        let policy = if is_share { Policy::Share } else { Policy::Open };
        let mut world = World::with(Shape { policy, closes_oldest, ..Shape::default() });
        world.slowness = f64::from(slowness);
        world.wait(1500);
        for step in &steps {
            world.step(step);
        }
        world.rest();
    }

    #[test]
    fn seats_held_ahead_and_remembered_refusals_change_no_limit(
        steps in prop::collection::vec(step(), 1..250),
        delay in 1..4u8,
        ahead in 0..4u32,
        cache in 0..150u8,
    ) {
        let mut world = World::with(Shape { ahead, reject_cache_ms: f64::from(cache), ..Shape::default() });
        world.delay = f64::from(delay);
        world.wait(1500);
        for step in &steps {
            world.step(step);
        }
        world.rest();
    }
}

#[test]
fn a_server_that_goes_back_is_noticed_by_the_next_beat() {
    let mut world = World::new();
    world.wait(1500);
    world.past = world.server.clone();
    world.step(&Step::Ask(0, 1));
    world.wait(400);
    assert_eq!(world.nodes[0].held.len(), 1);
    world.step(&Step::Back);
    world.wait(300);
    assert!(world.nodes.iter().all(|node| node.core.counts().lost >= 1));
    world.rest();
}

#[test]
fn the_seats_of_a_member_that_dies_are_free_after_the_lease() {
    let mut world = World::new();
    world.wait(1500);
    for _ in 0..2 {
        world.step(&Step::Ask(0, 1));
    }
    world.wait(50);
    assert_eq!(world.nodes[0].held.len(), 2);
    world.nodes[0].is_dead = true;
    world.nodes[0].held.clear();
    world.wait(2 * LEASE_MS as u16);
    assert_eq!(world.server.places.len(), 2);
    world.step(&Step::Ask(1, 1));
    world.wait(50);
    assert_eq!(world.nodes[1].held.len(), 1);
}

#[test]
fn a_client_that_leaves_is_answered_and_its_seat_given_back() {
    let mut world = World::new();
    world.wait(1500);
    world.step(&Step::Ask(0, 1));
    let tickets: Vec<u64> = world.nodes[0].waiting.keys().copied().collect();
    world.nodes[0].core.release(world.now, tickets[0]);
    assert_eq!(world.nodes[0].core.take_answers().len(), 1);
    world.nodes[0].waiting.clear();
    world.wait(100);
    assert_eq!(world.server.total(), 0);
    assert_eq!(world.nodes[0].core.seats(), (0, 0));
}

/// Answers of a server that knows what `Server` does, and the scripts beside the seats.
fn ask(world: &mut World, at: usize, request: Request) -> Outcome {
    let now = world.now;
    let ticket = world.nodes[at].core.request(now, 0, request);
    world.nodes[at].is_woken = true;
    for _ in 0..(5.0 * ADMIT_MS) as u32 {
        world.turn();
        let mut outcomes = world.nodes[at].core.take_outcomes().into_iter();
        if let Some(found) = outcomes.find(|outcome| outcome.ticket == ticket) {
            return found;
        }
    }
    panic!("a request without an outcome");
}

#[test]
fn new_limits_hold_on_all_members_and_survive_a_server_that_loses_everything() {
    let mut world = World::new();
    world.wait(1500);
    let mut numbers = world.nodes[0].core.limits();
    numbers[0] = 2.0;
    let change = Request::Limits {
        revision: 0,
        numbers,
    };
    assert_eq!(ask(&mut world, 0, change.clone()).code, DONE);
    world.wait(300);
    for node in &world.nodes {
        assert_eq!(node.core.limits(), numbers);
        assert_eq!(node.core.revision(), 1);
    }
    // Made for another revision: it would undo the first change unseen.
    assert_eq!(ask(&mut world, 1, change).code, CONFLICT);
    world.step(&Step::Flush);
    world.wait(2500);
    for node in &world.nodes {
        assert_eq!(node.core.limits(), numbers);
    }
    for user in 1..=4 {
        world.step(&Step::Ask(user as usize % MEMBERS, user));
    }
    world.wait(100);
    assert_eq!(world.server.total(), 2);
}

#[test]
fn a_drain_holds_on_all_members_and_survives_a_server_that_loses_everything() {
    let mut world = World::new();
    world.wait(1500);
    let drain = |ms| Request::Drain {
        ms,
        reason: b"maintenance".to_vec(),
    };
    assert_eq!(ask(&mut world, 0, drain(60_000.0)).code, DONE);
    world.wait(300);
    world.step(&Step::Flush);
    world.wait(2500);
    for at in 0..MEMBERS {
        let client = Client {
            address: 1,
            prefix: None,
            user: None,
            is_exempt: false,
        };
        let now = world.now;
        assert_eq!(world.nodes[at].core.ask(now, 0, &client), (0, DRAINING));
    }
    assert_eq!(ask(&mut world, 1, drain(0.0)).code, DONE);
    world.wait(300);
    world.step(&Step::Ask(2, 1));
    world.wait(50);
    assert_eq!(world.nodes[2].held.len(), 1);
}

#[test]
fn a_drain_and_its_end_hold_in_the_process_that_asked_once_they_are_answered() {
    let mut world = World::new();
    world.wait(1500);
    let drain = |ms| Request::Drain {
        ms,
        reason: b"maintenance".to_vec(),
    };
    for user in 1..=3 {
        assert_eq!(ask(&mut world, 0, drain(60_000.0)).code, DONE);
        let (left_ms, reason) = world.nodes[0].core.drain(world.now);
        assert_eq!((left_ms > 0.0, reason), (true, "maintenance"));
        world.step(&Step::Ask(0, user));
        assert_eq!(ask(&mut world, 0, drain(0.0)).code, DONE);
        assert_eq!(world.nodes[0].core.drain(world.now).0, 0.0);
        world.step(&Step::Ask(0, user));
        world.wait(50);
        assert_eq!(world.nodes[0].held.len(), user as usize);
    }
}

#[test]
fn every_request_is_answered_in_time_whatever_happens_to_the_link() {
    for step in [Step::Drop(0), Step::Flush, Step::Pause(2000)] {
        let mut world = World::new();
        world.wait(1500);
        world.step(&step);
        let outcome = ask(&mut world, 0, Request::Who { user: 1 });
        assert_eq!(outcome.code, UNREACHABLE, "{step:?}");
    }
    let mut world = World::new();
    world.wait(1500);
    world.nodes[0].core.close(world.now, 100.0);
    let outcome = ask(&mut world, 0, Request::Nodes);
    assert_eq!(outcome.code, CLOSED);
}

#[test]
fn a_request_waits_for_the_first_place_on_the_server() {
    let mut world = World::new();
    let drain = Request::Drain {
        ms: 60_000.0,
        reason: Vec::new(),
    };
    // The member has no place yet, and no link has failed.
    assert_eq!(ask(&mut world, 0, drain).code, DONE);
}

#[test]
fn a_member_that_is_closed_while_it_joins_leaves_no_place_behind() {
    for patience in [1000.0, 5.0] {
        let mut world = World::new();
        world.delay = 20.0;
        world.wait(10);
        assert!(world.nodes[0].is_linked && world.server.places.is_empty());
        world.nodes[0].core.close(world.now, patience);
        world.nodes[0].is_woken = true;
        world.wait(200);
        assert!(world.nodes[0].core.is_closed());
        // The reply to the join comes too late for the impatient one: its place is free after the lease.
        let left = if patience > 100.0 {
            MEMBERS - 1
        } else {
            MEMBERS
        };
        assert_eq!(world.server.places.len(), left);
    }
}

#[test]
fn takes_go_together_and_each_has_its_own_answer() {
    let mut world = World::new();
    world.wait(1500);
    let now = world.now;
    let tickets: Vec<u64> = (0..600u32)
        .map(|key| {
            let take = Request::Take {
                key: u128::from(key % 7),
                interval_ms: 10.0,
                burst: 3.0,
                cost: f64::from(key),
            };
            world.nodes[0].core.request(now, 0, take)
        })
        .collect();
    world.nodes[0].is_woken = true;
    let calls = world.server.takes;
    world.wait(20);
    // Three calls of at most 256.
    assert_eq!(world.server.takes - calls, 3);
    let outcomes = world.nodes[0].core.take_outcomes();
    assert_eq!(outcomes.len(), tickets.len());
    for (cost, outcome) in outcomes.iter().enumerate() {
        assert_eq!(outcome.ticket, tickets[cost]);
        // The model tells the cost back.
        assert_eq!(text(&outcome.parts[1]), cost.to_string());
    }
}

/// A member that has given one seat out, and holds three ahead.
fn holding_ahead() -> World {
    let mut world = World::with(Shape {
        ahead: 3,
        ..Shape::default()
    });
    world.wait(1500);
    world.step(&Step::Ask(0, 1));
    world.wait(50);
    assert_eq!(world.nodes[0].core.seats(), (1, 4));
    world
}

#[test]
fn seats_held_ahead_are_given_back_when_the_total_is_lowered() {
    let mut world = holding_ahead();
    let mut numbers = world.nodes[0].core.limits();
    numbers[0] = 1.0;
    let change = Request::Limits {
        revision: 0,
        numbers,
    };
    assert_eq!(ask(&mut world, 1, change).code, DONE);
    world.wait(300);
    assert_eq!(world.nodes[0].core.seats(), (1, 1));
    for user in 2..=3 {
        world.step(&Step::Ask(0, user));
    }
    world.wait(100);
    assert_eq!((world.nodes[0].held.len(), world.server.total()), (1, 1));
}

#[test]
fn seats_held_ahead_are_given_out_without_a_call_and_stay_bounded() {
    let mut world = holding_ahead();
    // From the spare seats, at once: no answer is waited for.
    world.step(&Step::Ask(0, 2));
    world.step(&Step::Ask(0, 3));
    assert!(world.nodes[0].waiting.is_empty());
    assert_eq!(world.nodes[0].held.len(), 3);
    world.wait(50);
    assert_eq!(world.server.total(), 6);
    // The others are refused: three seats are spare, as documented.
    world.step(&Step::Ask(1, 4));
    world.wait(50);
    assert!(world.nodes[1].held.is_empty());
    for _ in 0..3 {
        world.step(&Step::Release(0, 0));
    }
    world.wait(100);
    assert_eq!(world.nodes[0].core.seats(), (0, 3));
    world.rest();
}

#[test]
fn a_refusal_is_repeated_without_a_call_until_a_seat_is_given_back() {
    let mut world = World::with(Shape {
        reject_cache_ms: 5000.0,
        ..Shape::default()
    });
    world.wait(1500);
    for _ in 0..3 {
        world.step(&Step::Ask(0, 1));
    }
    world.wait(50);
    assert_eq!(world.nodes[0].held.len(), 2);
    let calls = world.nodes[0].core.counts().calls;
    for _ in 0..50 {
        world.step(&Step::Ask(0, 1));
    }
    assert!(world.nodes[0].waiting.is_empty());
    assert_eq!(world.nodes[0].core.counts().cached, 50);
    assert_eq!(world.nodes[0].core.counts().calls, calls);
    world.step(&Step::Release(0, 0));
    world.step(&Step::Ask(0, 1));
    world.wait(50);
    assert_eq!(world.nodes[0].held.len(), 2);
}

fn replacing() -> World {
    let mut world = World::with(Shape {
        closes_oldest: true,
        ..Shape::default()
    });
    world.wait(1500);
    world
}

fn tickets(world: &World, at: usize) -> Vec<u64> {
    world.nodes[at].held.iter().map(|seat| seat.0).collect()
}

#[test]
fn a_newcomer_replaces_the_oldest_seat_wherever_it_is() {
    let mut world = replacing();
    for at in [0, 1] {
        world.step(&Step::Ask(at, 1));
        world.wait(20);
    }
    let second = tickets(&world, 1);
    world.step(&Step::Ask(2, 1));
    world.wait(40);
    assert!(tickets(&world, 0).is_empty());
    assert_eq!(tickets(&world, 1), second);
    assert_eq!(tickets(&world, 2).len(), 1);
    // Two at once: each replaces one, and the seat of its own process may be it.
    world.step(&Step::Ask(2, 1));
    world.step(&Step::Ask(0, 1));
    world.wait(60);
    let left: usize = (0..MEMBERS).map(|at| tickets(&world, at).len()).sum();
    assert_eq!(left, PER_USER as usize);
    let takeovers: u64 = (0..MEMBERS)
        .map(|at| world.nodes[at].core.counts().takeovers)
        .sum();
    assert_eq!(takeovers, 3);
    world.rest();
}

/// Holds the seats of one user in one process, and lets newcomers come there at once. Returns the time until all
/// of them have their seats.
fn newcomers_at_once(world: &mut World, newcomers: usize) -> f64 {
    for _ in 0..PER_USER {
        world.step(&Step::Ask(0, 1));
        world.wait(20);
    }
    let first = tickets(world, 0);
    let began = world.now;
    for _ in 0..newcomers {
        world.step(&Step::Ask(0, 1));
    }
    while !world.nodes[0].waiting.is_empty() {
        world.wait(1);
    }
    let held = tickets(world, 0);
    assert_eq!(held.len(), PER_USER as usize);
    assert!(held.iter().all(|ticket| !first.contains(ticket)));
    world.now - began
}

#[test]
fn newcomers_at_once_each_replace_a_seat_though_the_events_overtake_the_reply() {
    let mut world = replacing();
    world.event_delay = 0.0;
    let waited = newcomers_at_once(&mut world, PER_USER as usize);
    assert!(waited < 40.0, "{waited} ms");
    world.rest();
}

#[test]
fn a_page_that_is_loaded_anew_takes_the_place_of_its_own_connection() {
    for event_delay in [0.0, 1.0, 3.0] {
        let mut world = replacing();
        world.event_delay = event_delay;
        for _ in 0..PER_USER {
            world.step(&Step::Ask(0, 1));
            world.wait(20);
        }
        let [_, second] = tickets(&world, 0)[..] else {
            panic!("two seats");
        };
        world.step(&Step::Ask(0, 1));
        // The server has the newcomer; its former connection ends before anybody hears of it.
        world.wait(1);
        world.step(&Step::Release(0, 0));
        world.wait(60);
        assert!(tickets(&world, 0).contains(&second), "{event_delay}");
        assert_eq!(tickets(&world, 0).len(), PER_USER as usize);
        assert_eq!(world.nodes[0].core.counts().replaced, 0);
        world.rest();
    }
}

#[test]
fn a_newcomer_insists_if_the_event_was_lost() {
    let mut world = replacing();
    for _ in 0..PER_USER {
        world.step(&Step::Ask(0, 1));
        world.wait(20);
    }
    world.step(&Step::Deafen(0, 20));
    world.step(&Step::Ask(1, 1));
    world.wait(30);
    assert_eq!((tickets(&world, 0).len(), tickets(&world, 1).len()), (2, 0));
    world.wait(60);
    assert_eq!((tickets(&world, 0).len(), tickets(&world, 1).len()), (1, 1));
    world.rest();
}

#[test]
fn a_newcomer_is_refused_if_nobody_makes_room() {
    let mut world = replacing();
    for at in [0, 1] {
        world.step(&Step::Ask(at, 1));
        world.wait(20);
    }
    for at in 0..MEMBERS {
        world.step(&Step::Deafen(at, 1000));
    }
    world.step(&Step::Ask(2, 1));
    world.wait(ADMIT_MS as u16 - 10);
    assert_eq!(world.nodes[2].waiting.len(), 1);
    assert_eq!(world.server.total(), 3);
    world.wait(30);
    assert!(world.nodes[2].waiting.is_empty());
    assert_eq!(world.nodes[2].core.counts().refused, 1);
    assert_eq!(world.server.total(), 2);
    world.rest();
}

#[test]
fn a_seat_that_ends_by_itself_is_the_one_that_is_replaced() {
    let mut world = replacing();
    for _ in 0..2 {
        world.step(&Step::Ask(0, 1));
        world.wait(20);
    }
    let [first, second] = tickets(&world, 0)[..] else {
        panic!("two seats");
    };
    world.step(&Step::Ask(1, 1));
    // The event is under way while the first one leaves.
    world.wait(1);
    assert_eq!((world.server.total(), world.events.len()), (2, 0));
    world.wait(1);
    assert_eq!((world.server.total(), world.events.len()), (3, 1));
    world.step(&Step::Release(0, 0));
    assert_eq!(tickets(&world, 0), [second]);
    world.wait(60);
    assert_ne!(first, second);
    assert_eq!(tickets(&world, 0), [second]);
    assert_eq!(tickets(&world, 1).len(), 1);
    world.rest();
}

#[test]
fn a_newcomer_that_waits_for_room_tells_at_once_that_it_has_left_with_the_link() {
    let mut world = replacing();
    for at in [0, 1] {
        world.step(&Step::Ask(at, 1));
        world.wait(20);
    }
    for at in 0..MEMBERS {
        world.step(&Step::Deafen(at, 1000));
    }
    world.step(&Step::Ask(2, 1));
    world.wait(20);
    assert_eq!((world.nodes[2].waiting.len(), world.server.total()), (1, 3));
    world.step(&Step::Drop(2));
    world.wait(1);
    assert_eq!(world.nodes[2].core.seats().0, 0);
    assert!(world.nodes[2].waiting.is_empty());
    // The link is back after 30 ms; nothing else is told then.
    world.wait(80);
    assert_eq!(world.server.total(), 2);
    world.rest();
}

#[test]
fn a_newcomer_that_waits_for_room_is_admitted_by_the_policy_and_holds_one_seat() {
    let policy = Policy::Open;
    let mut world = World::with(Shape {
        policy,
        closes_oldest: true,
        ..Shape::default()
    });
    world.wait(1500);
    for at in [0, 1] {
        world.step(&Step::Ask(at, 1));
        world.wait(20);
    }
    for at in 0..MEMBERS {
        world.step(&Step::Deafen(at, 1000));
    }
    world.step(&Step::Ask(2, 1));
    world.wait(20);
    world.step(&Step::Drop(2));
    world.wait(1);
    assert_eq!(
        (world.nodes[2].held.len(), world.nodes[2].core.seats().0),
        (1, 1)
    );
    world.step(&Step::Release(2, 0));
    assert_eq!(world.nodes[2].core.seats().0, 0);
    world.rest();
}

#[test]
fn a_name_is_taken_back_again_after_a_late_copy_of_the_call_that_told_it() {
    let mut world = World::new();
    world.wait(1500);
    world.step(&Step::Ask(0, 1));
    let told = (0..500).find_map(|_| {
        world.turn();
        world.wires.iter().find_map(|(.., message)| match message {
            Message::Call(Script::Names, args) => Some(args.clone()),
            _ => None,
        })
    });
    let told = told.expect("the name is told");
    world.wait(50);
    assert_eq!(world.server.names.len(), 1);
    world.step(&Step::Release(0, 0));
    let is_taken_back = (0..12_000).any(|_| {
        world.turn();
        world.server.names.is_empty()
    });
    assert!(is_taken_back);
    // The reply to that call is read first.
    world.wait(50);
    let now = world.now;
    world.server.run(Script::Names, &told, now);
    assert_eq!(world.server.names.len(), 1);
    world.wait(12_000);
    assert!(world.server.names.is_empty());
}

/// Returns a member of four whose server is away, with `share`.
fn away(mut limits: impl FnMut(&mut ClusterLimits)) -> Core {
    let shape = Shape {
        policy: Policy::Share,
        ..Shape::default()
    };
    let mut settings = settings(0, shape);
    settings.expected_members = 4;
    settings.limits = ClusterLimits {
        total: u32::MAX,
        user: u32::MAX,
        ..settings.limits
    };
    limits(&mut settings.limits);
    let mut core = Core::new(settings, 0.0);
    core.disconnected(0.0, "away");
    core
}

fn come(core: &mut Core, now: f64, address: u128, user: u128, is_exempt: bool) -> bool {
    let client = Client {
        address,
        prefix: None,
        user: Some(user),
        is_exempt,
    };
    let (ticket, code) = core.ask(now, 1, &client);
    core.learn(now, user, &[user as u16], code);
    if code == GRANTED {
        core.release(now, ticket);
    }
    let _ = core.poll(now);
    code == GRANTED
}

#[test]
fn each_member_has_its_share_of_the_connect_rates_while_the_server_is_away() {
    for of_user in [true, false] {
        let mut core = away(|limits| {
            let rate = [1000.0, 8.0];
            (limits.ip_rate, limits.user_rate) = if of_user {
                ([0.0; 2], rate)
            } else {
                (rate, [0.0; 2])
            };
        });
        let mut count = |now: f64, is_exempt| {
            let clients = 0..20u128;
            let admitted = clients.filter(|&at| {
                let (address, user) = if of_user { (at + 1, 7) } else { (7, at + 1) };
                come(&mut core, now, address, user, is_exempt)
            });
            admitted.count()
        };
        assert_eq!(count(0.0, false), 2);
        // A unit of the share is there again after four intervals.
        assert_eq!(count(3900.0, false), 0);
        assert_eq!(count(4100.0, false), 1);
        assert_eq!(count(4100.0, true), 20);
    }
}

#[test]
fn clients_that_come_and_go_while_the_server_is_away_leave_no_names_behind() {
    let mut core = away(|_| {});
    for user in 0..20_000 {
        assert!(come(&mut core, user as f64, user + 1, user + 1, false));
    }
    assert!(core.names() < 500, "{}", core.names());
}

#[test]
fn a_drain_ends_in_time_though_the_clock_of_the_server_is_set_back() {
    let mut world = World::new();
    world.wait(1500);
    let drain = Request::Drain {
        ms: 1000.0,
        reason: Vec::new(),
    };
    assert_eq!(ask(&mut world, 0, drain).code, DONE);
    world.wait(300);
    let (left_ms, _) = world.nodes[1].core.drain(world.now);
    assert!(left_ms > 0.0);
    world.server.drain.1 += 600_000.0;
    world.wait(1500);
    for node in &world.nodes {
        assert_eq!(node.core.drain(world.now).0, 0.0);
    }
}

#[test]
fn a_member_that_joins_again_knows_of_those_that_have_not() {
    let mut world = World::new();
    world.wait(300);
    let members = MEMBERS as u32;
    assert_eq!(world.nodes[0].core.state(), State::Settling);
    assert_eq!(world.nodes[0].core.known_members(), members);
    for node in &mut world.nodes[1..] {
        node.is_dead = true;
    }
    world.step(&Step::Flush);
    world.wait(300);
    let core = &world.nodes[0].core;
    assert_eq!((core.members(), core.known_members()), (1, members));
    world.wait(3000);
    let core = &world.nodes[0].core;
    assert_eq!(core.state(), State::Up);
    assert_eq!((core.members(), core.known_members()), (1, 1));
}
