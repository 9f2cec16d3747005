//! Several members, their server, and the wires between them; time is an argument.

use super::super::call::field_of;
use super::super::code::{ABANDONED, GRANTED, REPLACED, WAIT};
use super::super::column::{Name, Scope};
use super::super::core::{Action, Answer, Client, Core, State};
use super::super::reply::Reply;
use super::super::script::Script;
use super::super::settings::{ClusterLimits, Policy, Settings};
use super::server::{SECRET, Server};
use proptest::prelude::*;
use std::collections::HashMap;

pub(super) const LEASE_MS: f64 = 1000.0;
pub(super) const BEAT_MS: f64 = 200.0;
pub(super) const ADMIT_MS: f64 = 100.0;
pub(super) const MEMBERS: usize = 3;
pub(super) const PER_USER: u32 = 2;
pub(super) const TOTAL: u32 = 6;
pub(super) const ANONYMOUS: u32 = 2;
/// Stands for no user.
pub(super) const NOBODY: u128 = 0;

#[derive(Debug, Clone)]
pub(super) enum Step {
    Ask(usize, u128),
    Release(usize, usize),
    /// Moves a seat to a user.
    Bind(usize, usize, u128),
    /// Gives a seat back that moves at this moment.
    Leave(usize),
    Wait(u16),
    /// Drops the link of a member; what it has sent still arrives, late.
    Drop(usize),
    /// The server loses everything.
    Flush,
    /// The server goes back to the state of some steps ago.
    Back,
    /// The server stands still.
    Pause(u16),
    /// A process hears no events for a time.
    Deafen(usize, u16),
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        30 => (0..MEMBERS, NOBODY..5u128).prop_map(|(member, user)| Step::Ask(member, user)),
        12 => (0..MEMBERS, any::<usize>(), 1..5u128)
            .prop_map(|(member, at, user)| Step::Bind(member, at, user)),
        3 => (0..MEMBERS).prop_map(Step::Leave),
        15 => (0..MEMBERS, any::<usize>()).prop_map(|(member, at)| Step::Release(member, at)),
        20 => (1..60u16).prop_map(Step::Wait),
        2 => (1000..2500u16).prop_map(Step::Wait),
        2 => (0..MEMBERS).prop_map(Step::Drop),
        1 => Just(Step::Flush),
        2 => (20..1500u16).prop_map(Step::Pause),
        2 => (0..MEMBERS, 20..300u16).prop_map(|(member, ms)| Step::Deafen(member, ms)),
    ]
}

pub(super) struct Node {
    pub(super) core: Core,
    pub(super) is_dead: bool,
    pub(super) is_linked: bool,
    pub(super) linked_at: f64,
    /// Tickets that wait, with the user and the time.
    pub(super) waiting: HashMap<u64, (u128, f64)>,
    pub(super) held: Vec<(u64, u128)>,
    /// Moves that wait: the seat, its new user, and the time.
    pub(super) moving: HashMap<u64, (u64, u128, f64)>,
    pub(super) deaf_until: f64,
    /// Seats that a newcomer replaces, and the time at which they end.
    pub(super) ending: Vec<(f64, u64)>,
    pub(super) link: u64,
    /// As in `link`: `poll` is called when something wants it, or at the planned time.
    pub(super) is_woken: bool,
    pub(super) planned: f64,
}

impl Node {
    pub(super) fn learn(&mut self, now: f64, user: u128, code: i32) {
        if user != NOBODY {
            let name: Vec<u16> = format!("user {user}").encode_utf16().collect();
            self.core.learn(now, user, &name, code);
        }
    }
}

/// A message on its way: due time, member, link, number, and what arrives.
pub(super) enum Message {
    Call(Script, Vec<Vec<u8>>),
    Reply(Reply),
}

/// Settings of all members.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    pub(super) ahead: u32,
    pub(super) reject_cache_ms: f64,
    pub(super) policy: Policy,
    pub(super) closes_oldest: bool,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            ahead: 0,
            reject_cache_ms: 0.0,
            policy: Policy::Closed,
            closes_oldest: false,
        }
    }
}

pub(super) struct World {
    pub(super) now: f64,
    pub(super) server: Server,
    pub(super) paused_until: f64,
    pub(super) nodes: Vec<Node>,
    pub(super) wires: Vec<(f64, usize, u64, u64, Message)>,
    pub(super) past: Server,
    pub(super) delay: f64,
    /// Time from a call to the events that it causes.
    pub(super) event_delay: f64,
    pub(super) per_user: usize,
    pub(super) ahead: u32,
    /// False where a policy may admit over the limits.
    pub(super) is_exact: bool,
    /// Time from an event to the end of the seat that it replaces.
    pub(super) slowness: f64,
    /// Events on their way.
    pub(super) events: Vec<(f64, Vec<u8>)>,
}

pub(super) fn name_field(user: u128) -> Vec<u8> {
    let scope = Scope::User;
    let digest = user;
    field_of(SECRET.as_bytes(), Name { scope, digest }).to_vec()
}

/// Returns the settings of a member.
pub(super) fn settings(at: usize, shape: Shape) -> Settings {
    let Shape {
        ahead,
        reject_cache_ms,
        policy,
        closes_oldest,
    } = shape;
    Settings {
        name: "test".into(),
        prefix: "pc".into(),
        node: format!("node{at}"),
        node_name: format!("name{at}"),
        lease_ms: LEASE_MS,
        beat_ms: BEAT_MS,
        admit_timeout_ms: ADMIT_MS,
        expected_members: MEMBERS as u32,
        revision: 0,
        limits: ClusterLimits {
            total: TOTAL,
            prefix: u32::MAX,
            address: u32::MAX,
            user: if ahead > 0 { u32::MAX } else { PER_USER },
            anonymous: if ahead > 0 { u32::MAX } else { ANONYMOUS },
            anonymous_address: u32::MAX,
            unknown: u32::MAX,
            ip_rate: [0.0; 2],
            user_rate: [0.0; 2],
        },
        policy,
        batch_max: 4,
        reject_cache_ms,
        release_delay_ms: 20.0,
        lease_total: ahead,
        closes_oldest,
        keeps_names: true,
        entropy: [at as u64 + 1, at as u64 + 7, 3, 4],
    }
}

impl World {
    pub(super) fn new() -> Self {
        Self::with(Shape::default())
    }

    /// With seats held ahead there is no limit but the total.
    pub(super) fn with(shape: Shape) -> Self {
        let Shape { ahead, policy, .. } = shape;
        let nodes = (0..MEMBERS).map(|at| Node {
            core: Core::new(settings(at, shape), 0.0),
            is_dead: false,
            is_linked: false,
            linked_at: 0.0,
            waiting: HashMap::new(),
            held: Vec::new(),
            moving: HashMap::new(),
            deaf_until: 0.0,
            ending: Vec::new(),
            link: 0,
            is_woken: true,
            planned: 0.0,
        });
        Self {
            now: 0.0,
            server: Server::default(),
            paused_until: 0.0,
            nodes: nodes.collect(),
            wires: Vec::new(),
            past: Server::default(),
            delay: 1.0,
            event_delay: 1.0,
            per_user: if ahead > 0 {
                usize::MAX
            } else {
                PER_USER as usize
            },
            ahead,
            is_exact: policy == Policy::Closed,
            slowness: 0.0,
            events: Vec::new(),
        }
    }

    /// Seats of a user, and of all, that are open at this moment.
    pub(super) fn open(&self, user: u128) -> (usize, usize) {
        let seats = self.nodes.iter().flat_map(|node| &node.held);
        (
            seats.clone().filter(|(_, of)| *of == user).count(),
            seats.count(),
        )
    }

    pub(super) fn grant(&mut self, at: usize, ticket: u64, user: u128) {
        self.nodes[at].held.push((ticket, user));
        self.check(user);
    }

    pub(super) fn check(&self, user: u128) {
        if !self.is_exact {
            return;
        }
        let (of_user, total) = self.open(user);
        let most = match user {
            NOBODY => self.per_user.max(ANONYMOUS as usize),
            _ => self.per_user,
        };
        assert!(of_user <= most, "{of_user} seats of user {user}");
        assert!(total <= TOTAL as usize, "{total} seats");
    }

    /// Takes the answer to a move.
    pub(super) fn moved(&mut self, at: usize, base: u64, user: u128, code: i32) {
        if code == GRANTED {
            let mut held = self.nodes[at].held.iter_mut();
            let seat = held.find(|(ticket, _)| *ticket == base);
            seat.expect("only a seat that is held moves").1 = user;
            self.check(user);
        }
    }

    pub(super) fn turn(&mut self) {
        self.now += 1.0;
        // Due messages arrive in order, unless the server stands still.
        let mut later = Vec::new();
        for (due, at, link, number, message) in std::mem::take(&mut self.wires) {
            let is_call = matches!(message, Message::Call(..));
            if due > self.now || (is_call && self.now < self.paused_until) {
                later.push((due, at, link, number, message));
                continue;
            }
            match message {
                Message::Call(script, args) => {
                    let reply = self.server.run(script, &args, self.now);
                    let due = self.now + self.delay;
                    later.push((due, at, link, number, Message::Reply(reply)));
                }
                Message::Reply(reply) => {
                    if self.nodes[at].link == link && self.nodes[at].is_linked {
                        self.nodes[at].core.replied(self.now, number, reply);
                        self.nodes[at].is_woken = true;
                    }
                }
            }
        }
        self.wires = later;
        let due = self.now + self.event_delay;
        self.events
            .extend(self.server.events.drain(..).map(|event| (due, event)));
        let now = self.now;
        let (heard, later): (Vec<_>, Vec<_>) = std::mem::take(&mut self.events)
            .into_iter()
            .partition(|(due, _)| *due <= now);
        self.events = later;
        for (_, event) in heard {
            for node in self.nodes.iter_mut().filter(|node| now >= node.deaf_until) {
                node.core.replace(now, &event);
                node.is_woken = true;
            }
        }
        for at in 0..MEMBERS {
            self.serve(at);
        }
    }

    pub(super) fn take_answers(&mut self, at: usize) {
        let now = self.now;
        for Answer { ticket, code, .. } in self.nodes[at].core.take_answers() {
            if let Some((base, user, asked)) = self.nodes[at].moving.remove(&ticket) {
                assert!(now - asked <= ADMIT_MS + 1.0, "{} ms", now - asked);
                self.moved(at, base, user, code);
                continue;
            }
            if code == REPLACED {
                let due = now + self.slowness;
                self.nodes[at].ending.push((due, ticket));
                continue;
            }
            let Some((user, asked)) = self.nodes[at].waiting.remove(&ticket) else {
                panic!("a second answer to {ticket}");
            };
            assert!(now - asked <= ADMIT_MS + 1.0, "{} ms", now - asked);
            if code == GRANTED {
                self.grant(at, ticket, user);
            }
        }
    }

    pub(super) fn serve(&mut self, at: usize) {
        let now = self.now;
        let node = &mut self.nodes[at];
        if node.is_dead {
            return;
        }
        if !node.is_linked && now >= node.linked_at && now >= self.paused_until {
            node.is_linked = true;
            node.link += 1;
            node.core.connected(now, "run");
            node.is_woken = true;
        }
        let mut actions = Vec::new();
        if node.is_woken || now >= node.planned {
            actions = node.core.poll(now);
            node.planned = node.core.plan(now);
            node.is_woken = false;
        }
        for action in actions {
            match action {
                Action::Reconnect => {
                    node.is_linked = false;
                    node.linked_at = now + 30.0;
                    node.is_woken = true;
                }
                Action::Call(number, command) => self.wires.push((
                    now + self.delay,
                    at,
                    node.link,
                    number,
                    Message::Call(command.script, command.args),
                )),
            }
        }
        self.take_answers(at);
        let node = &mut self.nodes[at];
        let (ended, later): (Vec<_>, Vec<_>) = std::mem::take(&mut node.ending)
            .into_iter()
            .partition(|(due, _)| *due <= now);
        node.ending = later;
        for (_, ticket) in ended {
            // The seat may have ended by itself.
            if node.held.iter().any(|(held, _)| *held == ticket) {
                if let Some((&moving, _)) = node.moving.iter().find(|(_, to)| to.0 == ticket) {
                    node.moving.remove(&moving);
                    node.core.release(now, moving);
                    node.core.take_answers();
                }
                node.held.retain(|(held, _)| *held != ticket);
                node.core.release(now, ticket);
                node.is_woken |= node.core.is_urgent(now);
            }
        }
        let waiting = self.nodes[at].waiting.values().map(|(_, asked)| *asked);
        let moving = self.nodes[at].moving.values().map(|(.., asked)| *asked);
        let late = waiting
            .chain(moving)
            .any(|asked| now - asked > ADMIT_MS + 1.0);
        assert!(!late, "nobody waits for longer");
    }

    pub(super) fn wait(&mut self, ms: u16) {
        for _ in 0..ms {
            self.turn();
        }
    }

    pub(super) fn step(&mut self, step: &Step) {
        match *step {
            Step::Ask(at, user) => {
                let client = Client {
                    address: user + 1,
                    prefix: None,
                    user: Some(user).filter(|user| *user != NOBODY),
                    is_exempt: false,
                };
                let (ticket, code) = self.nodes[at].core.ask(self.now, 0, &client);
                self.nodes[at].learn(self.now, user, code);
                self.nodes[at].is_woken |= self.nodes[at].core.is_urgent(self.now);
                if code == WAIT {
                    self.nodes[at].waiting.insert(ticket, (user, self.now));
                } else if code == GRANTED {
                    self.grant(at, ticket, user);
                }
            }
            Step::Release(at, which) => {
                let node = &mut self.nodes[at];
                // One that moves is given back by `Leave`.
                if !node.held.is_empty() && node.moving.is_empty() {
                    let which = which % node.held.len();
                    let (ticket, _) = node.held.swap_remove(which);
                    node.core.release(self.now, ticket);
                    node.is_woken |= node.core.is_urgent(self.now);
                }
            }
            Step::Bind(at, which, user) => {
                let now = self.now;
                let node = &mut self.nodes[at];
                let is_free = |(ticket, _): &&(u64, u128)| {
                    node.moving.values().all(|(base, ..)| base != ticket)
                };
                let free: Vec<u64> = node
                    .held
                    .iter()
                    .filter(is_free)
                    .map(|seat| seat.0)
                    .collect();
                if free.is_empty() {
                    return;
                }
                let base = free[which % free.len()];
                let (ticket, code) = node.core.rebind(now, 0, base, user);
                node.learn(now, user, code);
                node.is_woken |= node.core.is_urgent(now);
                if code == WAIT {
                    node.moving.insert(ticket, (base, user, now));
                } else {
                    self.moved(at, base, user, code);
                }
            }
            Step::Leave(at) => {
                self.take_answers(at);
                let now = self.now;
                let node = &mut self.nodes[at];
                if let Some((&moving, &(base, ..))) = node.moving.iter().min_by_key(|one| *one.0) {
                    // As a table does it.
                    node.core.release(now, moving);
                    node.core.release(now, base);
                    node.held.retain(|(ticket, _)| *ticket != base);
                    node.moving.remove(&moving);
                    let answers = node.core.take_answers();
                    let answers: Vec<_> =
                        answers.iter().map(|one| (one.ticket, one.code)).collect();
                    assert_eq!(answers, [(moving, ABANDONED)]);
                    node.is_woken |= node.core.is_urgent(now);
                }
            }
            Step::Wait(ms) => self.wait(ms),
            Step::Drop(at) => {
                self.nodes[at].is_linked = false;
                self.nodes[at].linked_at = self.now + 30.0;
                self.nodes[at].core.disconnected(self.now, "dropped");
                self.nodes[at].is_woken = true;
                // The kernel still delivers it, later than what comes next.
                let now = self.now;
                for (due, of, ..) in &mut self.wires {
                    if *of == at {
                        *due = now + 120.0;
                    }
                }
            }
            Step::Flush => self.server = Server::default(),
            Step::Back => self.server = self.past.clone(),
            Step::Pause(ms) => self.paused_until = self.now + f64::from(ms),
            Step::Deafen(at, ms) => self.nodes[at].deaf_until = self.now + f64::from(ms),
        }
    }

    /// The first user whose name is not told as the seats say, with the name that is told.
    pub(super) fn wrong_name(&self) -> Option<(u128, Option<String>)> {
        (1..5).find_map(|user| {
            let field = name_field(user);
            let told = self.server.names.get(&field[..]).cloned();
            let shown = (self.server.sum(&field) > 0).then(|| format!("user {user}"));
            (told != shown).then_some((user, told))
        })
    }

    /// Lets everything settle; returns whether all agree.
    pub(super) fn rest(&mut self) {
        // A name is taken back with the second look after its last seat.
        self.wait(12_000);
        let held: usize = self.nodes.iter().map(|node| node.held.len()).sum();
        for node in &self.nodes {
            assert_eq!(node.core.state(), State::Up, "{}", node.core.problem());
            let seats = node.held.len() as u32;
            let (mine, told) = node.core.seats();
            assert_eq!(mine, seats);
            assert!(
                (seats..=seats + self.ahead).contains(&told),
                "{told} of {seats}"
            );
        }
        let spare = self.server.total() as usize - held;
        assert!(
            spare <= MEMBERS * self.ahead as usize,
            "{spare} spare seats"
        );
        for user in 1..5 {
            let field = name_field(user);
            let counted = self.server.sum(&field);
            assert_eq!(counted as usize, self.open(user).0, "seats of user {user}");
        }
        if self.wrong_name().is_some() {
            // A late copy of a call may have taken a name back: it is told again within a minute.
            self.wait(36_000);
            self.wait(36_000);
        }
        assert_eq!(self.wrong_name(), None, "a user with the name that is told");
        assert_eq!(self.server.anonymous() as usize, self.open(NOBODY).0);
        assert_eq!(self.server.places.len(), MEMBERS);
    }
}
