//! The members of this process, and the one thread that serves them.

use super::call::Space;
use super::code::CLOSED;
use super::connect::{Connector, Endpoint};
use super::core::Client;
use super::link::guard;
use super::port::Port;
use super::request::Request;
use super::settings::Settings;
use super::shared_core::{SharedCore, Status};
use crate::error::Error;
use std::cell::Cell;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::{LocalSet, spawn_local};

/// Longest time that a member which leaves waits for the server.
const LEAVE_MS: f64 = 400.0;
/// Longest time that a JavaScript thread waits for the end of the network's thread.
const END: Duration = Duration::from_millis(500);

/// One JavaScript thread's share of a member.
pub struct Member {
    shared: Arc<SharedCore>,
    port: u32,
    has_left: Cell<bool>,
}

impl Member {
    fn new(shared: Arc<SharedCore>, number: u32, port: Arc<Port>) -> Self {
        let port = shared.add_thread(number, port);
        Self {
            shared,
            port,
            has_left: Cell::new(false),
        }
    }

    /// Asks for a seat; see [`super::Core::ask`].
    /// `name` is the user's, for [`super::Core::learn`].
    #[must_use]
    pub fn ask(&self, client: &Client, name: Option<&[u16]>) -> (u64, i32) {
        if self.has_left.get() {
            return (0, CLOSED);
        }
        self.shared.act(|core, now| {
            let answer = core.ask(now, self.port, client);
            if let (Some(user), Some(name)) = (client.user, name) {
                core.learn(now, user, name, answer.1);
            }
            answer
        })
    }

    /// Asks for a seat of `user` for the seat of a ticket; see [`super::Core::rebind`].
    #[must_use]
    pub fn rebind(&self, ticket: u64, user: u128, name: &[u16]) -> (u64, i32) {
        if self.has_left.get() {
            return (0, CLOSED);
        }
        self.shared.act(|core, now| {
            let answer = core.rebind(now, self.port, ticket, user);
            core.learn(now, user, name, answer.1);
            answer
        })
    }

    /// Gives a seat back, or ends the wait for one.
    pub fn release(&self, ticket: u64) {
        self.shared.act(|core, now| core.release(now, ticket));
    }

    /// Adds a request; its outcome is mailed to this thread. Returns its ticket.
    #[must_use]
    pub fn request(&self, request: Request) -> u64 {
        let ticket = self
            .shared
            .turn(|core, now| core.request(now, self.port, request));
        self.shared.changed.notify_one();
        ticket
    }

    /// Returns the figures of the member.
    #[must_use]
    pub fn status(&self) -> Status {
        self.shared.status()
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.close();
    }
}

impl Member {
    /// Leaves: this thread asks for no seat from now on. The last thread makes the member leave; with
    /// the last member the network's thread ends, and the caller waits for that, at most [`END`].
    pub fn close(&self) {
        if self.has_left.replace(true) {
            return;
        }
        // Not under the lock: other threads may join meanwhile.
        if let Some(end) = self.leave() {
            let _ = end.recv_timeout(END);
        }
    }

    /// Makes the member leave with its last thread. Returns the end of the network's thread if it was the last member.
    fn leave(&self) -> Option<Receiver<()>> {
        let mut guard = net();
        let net = guard.get_or_insert_default();
        if !self.shared.remove_thread(self.port) {
            return None;
        }
        self.shared.turn(|core, now| core.close(now, LEAVE_MS));
        self.shared.changed.notify_one();
        net.members
            .retain(|other| !Arc::ptr_eq(other, &self.shared));
        if !net.members.is_empty() {
            return None;
        }
        net.sender = None;
        net.end.take()
    }
}

#[derive(Default)]
struct Net {
    members: Vec<Arc<SharedCore>>,
    sender: Option<UnboundedSender<Arc<SharedCore>>>,
    /// Disconnected when the thread ends.
    end: Option<Receiver<()>>,
}

static NET: Mutex<Option<Net>> = Mutex::new(None);

fn net() -> MutexGuard<'static, Option<Net>> {
    NET.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The reason why a JavaScript thread cannot join.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// A mistake of the caller.
    #[error("{0}")]
    Conflict(Error),
    /// An option that cannot be used, with its code.
    #[error("{0}")]
    Config(String),
    /// The thread cannot be started.
    #[error("the cluster's thread cannot be started: {0}")]
    Thread(std::io::Error),
}

/// Joins the cluster for one JavaScript thread. Threads that name the same server, prefix and name
/// share one member. `number` is the thread's own number of the member.
///
/// # Errors
/// The other threads have other settings, or the thread cannot be started.
pub fn join(
    endpoint: Endpoint,
    settings: Settings,
    port: Arc<Port>,
    number: u32,
) -> Result<Member, JoinError> {
    let urls = endpoint.urls.join(" ");
    let key = format!("{urls}\n{}\n{}", settings.prefix, settings.name);
    let mut guard = net();
    let net = guard.get_or_insert_default();
    if let Some(shared) = net.members.iter().find(|shared| shared.key == key) {
        let comparable = Settings {
            node: shared.settings.node.clone(),
            node_name: shared.settings.node_name.clone(),
            entropy: shared.settings.entropy,
            ..settings
        };
        if comparable != shared.settings || endpoint != shared.endpoint {
            return Err(JoinError::Conflict(Error::ClusterConflict));
        }
        return Ok(Member::new(Arc::clone(shared), number, port));
    }
    let meta = Space::new(&settings.prefix, &settings.name).meta();
    let connector = Connector::new(&endpoint, meta).map_err(JoinError::Config)?;
    if net.sender.is_none() {
        let (sender, receiver) = unbounded_channel();
        let (alive, end) = channel();
        std::thread::Builder::new()
            .name("portcullis-net".into())
            .spawn(move || {
                let _alive = alive;
                run(receiver);
            })
            .map_err(JoinError::Thread)?;
        net.sender = Some(sender);
        net.end = Some(end);
    }
    let shared = Arc::new(SharedCore::new(key, endpoint, connector, settings));
    let member = Member::new(Arc::clone(&shared), number, port);
    if let Some(sender) = &net.sender {
        let _ = sender.send(Arc::clone(&shared));
    }
    net.members.push(shared);
    Ok(member)
}

/// The thread: serves members until no more can come and all have left.
fn run(mut members: UnboundedReceiver<Arc<SharedCore>>) {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    else {
        // Nothing can be asked: every member refuses.
        while let Some(shared) = members.blocking_recv() {
            shared.turn(|core, now| core.close(now, 0.0));
        }
        return;
    };
    let tasks = LocalSet::new();
    runtime.block_on(tasks.run_until(async {
        let mut served = Vec::new();
        while let Some(shared) = members.recv().await {
            served.push(spawn_local(guard(shared)));
        }
        for task in served {
            let _ = task.await;
        }
    }));
    drop(tasks);
    // No member needs a task that blocks: none may hold up the end of this thread.
    runtime.shutdown_background();
}

#[cfg(test)]
mod tests {
    #![expect(
        clippy::disallowed_methods,
        clippy::print_stderr,
        reason = "a real server and real threads; a skipped test says so"
    )]
    use super::*;
    use crate::clock::process_now_ms;
    use crate::cluster::core::{Client, State};
    use crate::cluster::faults::{CALL, LISTEN, LOCKED, LOOKUP, SERVE, ask as fail, held, hold_at};
    use crate::cluster::settings::{ClusterLimits, Policy};
    use std::process::{Child, Command, Stdio};
    use std::time::Duration;

    /// The thread of the network serves all members: only the last one that leaves waits for it.
    static ALONE: Mutex<()> = Mutex::new(());

    struct Server(Child);

    impl Drop for Server {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    fn start(port: u16) -> Option<Server> {
        let port = port.to_string();
        ["redis-server", "valkey-server"].iter().find_map(|name| {
            let mut command = Command::new(name);
            command.args(["--port", &port, "--bind", "127.0.0.1", "--save", ""]);
            command.stdout(Stdio::null()).spawn().ok().map(Server)
        })
    }

    fn settings() -> Settings {
        Settings {
            name: "contained".into(),
            prefix: "pc".into(),
            node_name: "here".into(),
            node: "here".into(),
            lease_ms: 1000.0,
            beat_ms: 100.0,
            admit_timeout_ms: 100.0,
            expected_members: 0,
            revision: 0,
            limits: ClusterLimits::of(&[9.0; 11]),
            policy: Policy::Closed,
            batch_max: 4,
            reject_cache_ms: 0.0,
            release_delay_ms: 20.0,
            lease_total: 0,
            closes_oldest: false,
            keeps_names: false,
            entropy: [1, 2, 3, 4],
        }
    }

    fn endpoint(url: String) -> Endpoint {
        Endpoint {
            urls: vec![url],
            sentinel_master: None,
            username: None,
            password: None,
            tls: None,
            connect_timeout_ms: 200.0,
            allow_eviction: false,
        }
    }

    #[test]
    fn a_member_whose_host_is_being_looked_up_leaves_at_once_and_asks_once() {
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        hold_at(LOOKUP);
        for _ in 0..2 {
            let (mailbox, _descriptor) = Port::open().expect("a socket pair");
            let endpoint = endpoint("redis://slow.invalid:1".into());
            let member = join(endpoint, settings(), Arc::new(mailbox), 1).expect("joined");
            until("the lookup", || held() == 1);
            until("some attempts", || {
                member.status().problem.contains("no connection within")
            });
            let begun = process_now_ms();
            member.close();
            // The lookup does not end before the test lets it.
            assert!(process_now_ms() - begun < 10_000.0, "the end waits");
            assert_eq!(held(), 1);
        }
        hold_at(0);
        until("the end of the lookup", || held() == 0);
    }

    fn until(what: &str, is_so: impl Fn() -> bool) {
        let begun = process_now_ms();
        while !is_so() {
            assert!(process_now_ms() - begun < 20_000.0, "{what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn a_task_that_panics_begins_anew_and_is_counted() {
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        drop(listener);
        let Some(_server) = start(port) else {
            eprintln!("skipped: neither redis-server nor valkey-server is on the PATH");
            return;
        };
        let endpoint = endpoint(format!("redis://127.0.0.1:{port}"));
        let (mailbox, _descriptor) = Port::open().expect("a socket pair");
        let member = join(endpoint, settings(), Arc::new(mailbox), 1).expect("joined");
        let is_up = || member.status().state == State::Up;
        until("up", is_up);
        let client = Client {
            address: 1,
            prefix: None,
            user: Some(1),
            is_exempt: false,
        };
        let _ = member.ask(&client, None);
        until("the seat is told", || member.status().told == 1);
        for (contained, place) in [(1, LISTEN), (2, CALL), (3, SERVE)] {
            fail(place);
            until("contained", || {
                member.status().counts.contained == contained
            });
            until("up again", is_up);
            let events = member.status().counts.events;
            until("events are read again", || {
                let drain = Request::Drain {
                    ms: 0.0,
                    reason: Vec::new(),
                };
                let _ = member.request(drain);
                member.status().counts.events > events
            });
        }
        assert_eq!(member.status().counts.lost, 0);
        // The core may be half-way: it joins anew, and tells again what it holds.
        fail(LOCKED);
        until("contained", || member.status().counts.contained == 4);
        until("up again", is_up);
        assert_eq!(member.status().counts.lost, 1);
        let client = Client {
            user: Some(2),
            ..client
        };
        let _ = member.ask(&client, None);
        until("both seats are told", || {
            let status = member.status();
            (status.seats, status.told) == (2, 2)
        });
    }
}
