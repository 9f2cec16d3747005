//! The one thread that talks to the servers: it carries out what `core` asks for, and makes no
//! decision of its own.

use super::call::Space;
use super::code::CLOSED;
use super::connect::{Connector, Endpoint, describe, is_of_link, send};
use super::core::{Action, Answer, Client, Core, Counts, State};
use super::events::Read;
use super::listener::{IDLE, SILENT, ask};
use super::notice::Notice;
use super::port::{Mail, Port};
use super::reply::Reply;
use super::request::{Outcome, Request};
use super::script::{SCRIPTS, Script};
use super::settings::Settings;
use super::wire::reply_of;
use crate::clock::process_now_ms;
use crate::error::Error;
use redis::aio::MultiplexedConnection;
use redis::{Cmd, ErrorKind, RedisError, ServerErrorKind, Value};
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::{AbortHandle, LocalSet, spawn_local};

/// Shortest and longest pause before a connection is made anew.
const BACKOFF_MS: (f64, f64) = (50.0, 2000.0);
/// Longest pause, in leases: a new generation waits for a lease, in which everybody must be back.
const BACKOFF_LEASES: f64 = 0.25;
/// Bugs in a row after which a member is given up, and the time without one that begins a new row, ms.
const BUGS_MAX: i32 = 10;
const BUGS_APART_MS: f64 = 60_000.0;
/// Longest time that a member which leaves waits for the server.
const LEAVE_MS: f64 = 500.0;

struct Guarded {
    core: Core,
    /// Number of each thread, its own number of the member, and its port.
    ports: Vec<(u32, u32, Arc<Port>)>,
    next_port: u32,
    told: State,
}

struct Inner {
    key: String,
    endpoint: Endpoint,
    /// Key of the stream of events.
    events_key: Vec<u8>,
    connector: Connector,
    settings: Settings,
    guarded: Mutex<Guarded>,
    changed: Notify,
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Guarded> {
        // Panics are contained: the core begins anew, or refuses everybody.
        self.guarded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a panic of a part of this thread, which its caller begins anew. A panic that held the lock may have left the
    /// core half-way.
    fn contain(&self, part: &str) {
        let is_suspect = self.guarded.is_poisoned();
        self.guarded.clear_poison();
        let contained = catch_unwind(AssertUnwindSafe(|| {
            self.turn(|core, now| core.contain(now, part, is_suspect));
        }));
        if contained.is_err() {
            self.abandon();
        }
        self.changed.notify_one();
    }

    /// Closes the member: it refuses everybody from now on.
    fn abandon(&self) {
        let _ = catch_unwind(AssertUnwindSafe(|| {
            self.turn(|core, now| core.abandon(now));
        }));
    }

    /// Calls `act` with the core; delivers the answers, and tells a change of state.
    fn turn<R>(&self, act: impl FnOnce(&mut Core, f64) -> R) -> R {
        let mut guarded = self.lock();
        let result = act(&mut guarded.core, process_now_ms());
        let answers = guarded.core.take_answers();
        let outcomes = guarded.core.take_outcomes();
        let notices = guarded.core.take_notices();
        let state = guarded.core.state();
        let has_changed = state != guarded.told;
        guarded.told = state;
        let is_quiet = answers.is_empty() && outcomes.is_empty() && notices.is_empty();
        if is_quiet && !has_changed {
            return result;
        }
        let ports = guarded.ports.clone();
        drop(guarded);
        deliver(&ports, outcomes, &notices);
        for Answer { port, ticket, code } in answers {
            if let Some((_, member, port)) = ports.iter().find(|(id, ..)| *id == port) {
                port.push(*member, ticket, code);
            }
        }
        if has_changed {
            for (_, member, port) in &ports {
                port.push(*member, 0, state as i32);
            }
        }
        result
    }
}

/// Hands outcomes to the threads that asked, and news to all.
fn deliver(ports: &[(u32, u32, Arc<Port>)], outcomes: Vec<Outcome>, notices: &[Notice]) {
    for outcome in outcomes {
        if let Some((_, member, port)) = ports.iter().find(|(id, ..)| *id == outcome.port) {
            port.mail(Mail {
                member: *member,
                ticket: outcome.ticket,
                code: outcome.code,
                parts: outcome.parts,
            });
        }
    }
    for notice in notices {
        for (_, member, port) in ports {
            port.mail(Mail {
                member: *member,
                ticket: 0,
                code: 0,
                parts: parts_of(notice),
            });
        }
    }
}

/// Returns a notice as it crosses: its kind, then its data.
fn parts_of(notice: &Notice) -> Vec<Vec<u8>> {
    let text = |value: String| value.into_bytes();
    match notice {
        Notice::Limits { revision, numbers } => {
            let mut parts = vec![b"limits".to_vec(), text(revision.to_string())];
            parts.extend(numbers.map(|number| text(number.to_string())));
            parts
        }
        Notice::Joined => vec![b"joined".to_vec()],
        Notice::Gap => vec![b"gap".to_vec()],
        Notice::Event { kind, data } => vec![vec![*kind], data.clone()],
        Notice::Drift(count) => vec![b"drift".to_vec(), text(count.to_string())],
        Notice::Over(total, users) => vec![
            b"over".to_vec(),
            text(total.to_string()),
            text(users.to_string()),
        ],
    }
}

impl Inner {
    /// Calls `act` for a client. Wakes the thread only if it would act too late by itself: each wake is
    /// a system call here and a turn there, and while a call is under way its reply does both.
    fn act<R>(&self, act: impl FnOnce(&mut Core, f64) -> R) -> R {
        let (result, is_urgent) = self.turn(|core, now| {
            let result = act(core, now);
            (result, core.is_urgent(now))
        });
        if is_urgent {
            self.changed.notify_one();
        }
        result
    }
}

/// Figures of a member.
#[derive(Debug, Clone)]
pub struct Status {
    /// The state.
    pub state: State,
    /// Time since the last change of state, ms.
    pub since_ms: f64,
    /// Members of the cluster.
    pub members: u32,
    /// Seats that this process holds.
    pub seats: u32,
    /// Seats of this process that the server knows.
    pub told: u32,
    /// Clients that wait for an answer.
    pub waiting: u32,
    /// Revision of the limits in force.
    pub revision: u32,
    /// True if those are not the declared ones.
    pub limits_differ: bool,
    /// The limits in force, in the order in which they cross.
    pub limits: [f64; 11],
    /// Time that is left of a drain of all members, ms.
    pub drain_ms: f64,
    /// Reason of that drain.
    pub drain_reason: String,
    /// Last problem, empty if there is none.
    pub problem: String,
    /// Counts since the start.
    pub counts: Counts,
}

/// One JavaScript thread's share of a member.
pub struct Member {
    inner: Arc<Inner>,
    port: u32,
    has_left: Cell<bool>,
}

impl Member {
    /// Asks for a seat; see [`Core::ask`].
    /// `name` is the user's, for [`Core::learn`].
    #[must_use]
    pub fn ask(&self, client: &Client, name: Option<&[u16]>) -> (u64, i32) {
        if self.has_left.get() {
            return (0, CLOSED);
        }
        self.inner.act(|core, now| {
            let answer = core.ask(now, self.port, client);
            if let (Some(user), Some(name)) = (client.user, name) {
                core.learn(now, user, name, answer.1);
            }
            answer
        })
    }

    /// Asks for a seat of `user` for the seat of a ticket; see [`Core::rebind`].
    #[must_use]
    pub fn rebind(&self, ticket: u64, user: u128, name: &[u16]) -> (u64, i32) {
        if self.has_left.get() {
            return (0, CLOSED);
        }
        self.inner.act(|core, now| {
            let answer = core.rebind(now, self.port, ticket, user);
            core.learn(now, user, name, answer.1);
            answer
        })
    }

    /// Gives a seat back, or ends the wait for one.
    pub fn release(&self, ticket: u64) {
        self.inner.act(|core, now| core.release(now, ticket));
    }

    /// Adds a request; its outcome is mailed to this thread. Returns its ticket.
    #[must_use]
    pub fn request(&self, request: Request) -> u64 {
        let ticket = self
            .inner
            .turn(|core, now| core.request(now, self.port, request));
        self.inner.changed.notify_one();
        ticket
    }

    /// Returns the figures of the member.
    #[must_use]
    pub fn status(&self) -> Status {
        let guarded = self.inner.lock();
        let core = &guarded.core;
        let (drain_ms, drain_reason) = core.drain(process_now_ms());
        let (seats, told) = core.seats();
        Status {
            state: core.state(),
            since_ms: process_now_ms() - core.since_ms(),
            members: core.members(),
            seats,
            told,
            waiting: core.waiting(),
            revision: core.revision(),
            limits_differ: core.limits_differ(),
            limits: core.limits(),
            drain_ms,
            drain_reason: drain_reason.to_owned(),
            problem: core.problem().to_owned(),
            counts: core.counts(),
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.close();
    }
}

impl Member {
    /// Leaves: this thread asks for no seat from now on. The last thread makes the member leave, and
    /// waits for that, at most [`LEAVE_MS`]; with the last member the network's thread ends.
    pub fn close(&self) {
        if self.has_left.replace(true) {
            return;
        }
        let mut guard = net();
        let net = guard.get_or_insert_default();
        let is_last = {
            let mut guarded = self.inner.lock();
            guarded.ports.retain(|(id, ..)| *id != self.port);
            guarded.ports.is_empty()
        };
        if !is_last {
            return;
        }
        self.inner.turn(|core, now| core.close(now + LEAVE_MS));
        self.inner.changed.notify_one();
        net.members.retain(|other| !Arc::ptr_eq(other, &self.inner));
        if net.members.is_empty() {
            // The thread ends once the last member has left: the addon may be unloaded after that.
            net.sender = None;
            if let Some(thread) = net.thread.take() {
                let _ = thread.join();
            }
        }
    }
}

#[derive(Default)]
struct Net {
    members: Vec<Arc<Inner>>,
    sender: Option<UnboundedSender<Arc<Inner>>>,
    thread: Option<JoinHandle<()>>,
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
    if let Some(inner) = net.members.iter().find(|inner| inner.key == key) {
        let comparable = Settings {
            node: inner.settings.node.clone(),
            node_name: inner.settings.node_name.clone(),
            entropy: inner.settings.entropy,
            ..settings
        };
        if comparable != inner.settings || endpoint != inner.endpoint {
            return Err(JoinError::Conflict(Error::ClusterConflict));
        }
        let mut guarded = inner.lock();
        guarded.next_port += 1;
        let id = guarded.next_port;
        guarded.ports.push((id, number, port));
        drop(guarded);
        return Ok(Member {
            inner: Arc::clone(inner),
            port: id,
            has_left: Cell::new(false),
        });
    }
    let meta = Space::new(&settings.prefix, &settings.name).meta();
    let connector = Connector::new(&endpoint, meta).map_err(JoinError::Config)?;
    if net.sender.is_none() {
        let (sender, receiver) = unbounded_channel();
        let thread = std::thread::Builder::new()
            .name("portcullis-net".into())
            .spawn(move || run(receiver))
            .map_err(JoinError::Thread)?;
        net.sender = Some(sender);
        net.thread = Some(thread);
    }
    let core = Core::new(settings.clone(), process_now_ms());
    let told = core.state();
    let inner = Arc::new(Inner {
        events_key: Space::new(&settings.prefix, &settings.name).events(),
        key,
        endpoint,
        connector,
        settings,
        guarded: Mutex::new(Guarded {
            core,
            ports: vec![(1, number, port)],
            next_port: 1,
            told,
        }),
        changed: Notify::new(),
    });
    if let Some(sender) = &net.sender {
        let _ = sender.send(Arc::clone(&inner));
    }
    net.members.push(Arc::clone(&inner));
    Ok(Member {
        inner,
        port: 1,
        has_left: Cell::new(false),
    })
}

/// The thread: serves members until no more can come and all have left.
fn run(mut members: UnboundedReceiver<Arc<Inner>>) {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    else {
        // Nothing can be asked: every member refuses.
        while let Some(inner) = members.blocking_recv() {
            inner.turn(|core, now| core.close(now));
        }
        return;
    };
    let tasks = LocalSet::new();
    runtime.block_on(tasks.run_until(async {
        let mut served = Vec::new();
        while let Some(inner) = members.recv().await {
            served.push(spawn_local(guard(inner)));
        }
        for task in served {
            let _ = task.await;
        }
    }));
}

/// Serves a member. A task that panics begins anew; a member whose task panics again and again refuses everybody.
async fn guard(inner: Arc<Inner>) {
    let mut bugs = 0;
    loop {
        let begun = process_now_ms();
        if spawn_local(serve(Arc::clone(&inner))).await.is_ok() {
            return;
        }
        bugs = if process_now_ms() - begun > BUGS_APART_MS {
            1
        } else {
            bugs + 1
        };
        if bugs >= BUGS_MAX {
            return inner.abandon();
        }
        inner.contain("network");
        let lost = catch_unwind(AssertUnwindSafe(|| {
            inner.turn(|core, _| core.disconnected("a bug in the cluster's network was contained"));
        }));
        if lost.is_err() {
            return inner.abandon();
        }
        backoff(bugs).await;
    }
}

/// Ends a task when its owner ends, by a panic, too.
struct Owned(AbortHandle);

impl Drop for Owned {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Runs a task to its end; `false` if it has panicked.
async fn survives(task: impl Future<Output = ()> + 'static) -> bool {
    let task = spawn_local(task);
    let _owned = Owned(task.abort_handle());
    task.await.is_ok()
}

/// The connection of a member, and its calls under way.
#[derive(Default)]
struct Link {
    connection: Option<MultiplexedConnection>,
    /// True if each command needs `ASKING`.
    is_asking: bool,
    /// The task that reads and writes.
    driver: Option<AbortHandle>,
    /// Number of the connection: a reply of an earlier one is nobody's.
    number: u64,
    calls: Vec<AbortHandle>,
    is_connecting: bool,
    connecting: Option<AbortHandle>,
    failures: i32,
}

/// The link of a task that serves: it ends with the task.
struct OwnedLink(Rc<RefCell<Link>>);

impl Drop for OwnedLink {
    fn drop(&mut self) {
        let mut link = self.0.borrow_mut();
        link.end();
        if let Some(connecting) = link.connecting.take() {
            connecting.abort();
        }
    }
}

impl Link {
    /// Ends the connection; calls under way are never answered, though the server may still run them.
    fn end(&mut self) {
        self.connection = None;
        self.number += 1;
        if let Some(driver) = self.driver.take() {
            driver.abort();
        }
        for call in self.calls.drain(..) {
            call.abort();
        }
    }
}

async fn serve(inner: Arc<Inner>) {
    let link = Rc::new(RefCell::new(Link::default()));
    let _ends = OwnedLink(Rc::clone(&link));
    let _listener = Owned(spawn_local(keep_listening(Arc::clone(&inner))).abort_handle());
    loop {
        #[cfg(test)]
        super::faults::meet(super::faults::SERVE);
        let (actions, wait_ms, is_closed) = inner.turn(|core, now| {
            #[cfg(test)]
            super::faults::meet(super::faults::LOCKED);
            let actions = core.poll(now);
            (actions, core.plan(now) - now, core.is_closed())
        });
        for action in actions {
            match action {
                Action::Reconnect => {
                    let mut at = link.borrow_mut();
                    at.end();
                    at.failures += 1;
                }
                Action::Call(number, command) => {
                    let mut at = link.borrow_mut();
                    let Some(connection) = at.connection.clone() else {
                        continue;
                    };
                    at.calls.retain(|call| !call.is_finished());
                    let call = call(
                        Rc::clone(&link),
                        Arc::clone(&inner),
                        (connection, at.is_asking),
                        at.number,
                        number,
                        command,
                    );
                    let task = spawn_local(or_unlink(Rc::clone(&link), Arc::clone(&inner), call));
                    at.calls.push(task.abort_handle());
                }
            }
        }
        if is_closed {
            return;
        }
        let must_connect = {
            let at = link.borrow();
            at.connection.is_none() && !at.is_connecting
        };
        if must_connect {
            let mut at = link.borrow_mut();
            at.is_connecting = true;
            let connect = connect(Rc::clone(&link), Arc::clone(&inner));
            let task = spawn_local(or_unlink(Rc::clone(&link), Arc::clone(&inner), connect));
            at.connecting = Some(task.abort_handle());
        }
        let wait = Duration::from_secs_f64((wait_ms / 1e3).clamp(0.000_5, 1.0));
        let _ = tokio::time::timeout(wait, inner.changed.notified()).await;
    }
}

/// Runs a task of a link, which is made anew if the task panics.
async fn or_unlink(
    link: Rc<RefCell<Link>>,
    inner: Arc<Inner>,
    task: impl Future<Output = ()> + 'static,
) {
    if survives(task).await {
        return;
    }
    inner.contain("connection");
    {
        let mut at = link.borrow_mut();
        at.is_connecting = false;
        at.failures += 1;
        at.connection = None;
        at.number += 1;
        if let Some(driver) = at.driver.take() {
            driver.abort();
        }
    }
    inner.turn(|core, _| core.disconnected("a bug in the cluster's connection was contained"));
    inner.changed.notify_one();
}

/// Makes a connection after a pause that grows with each failure.
async fn connect(link: Rc<RefCell<Link>>, inner: Arc<Inner>) {
    let failures = link.borrow().failures;
    pause(longest_pause_ms(failures, inner.settings.lease_ms)).await;
    let made = inner.connector.open().await;
    let mut at = link.borrow_mut();
    at.is_connecting = false;
    match made {
        Ok(opened) => {
            at.end();
            at.connection = Some(opened.connection);
            at.driver = Some(opened.driver);
            at.is_asking = opened.is_asking;
            drop(at);
            inner.turn(|core, now| core.connected(now, &opened.run));
        }
        Err(problem) => {
            at.failures += 1;
            drop(at);
            inner.turn(|core, _| core.disconnected(&problem));
        }
    }
    inner.changed.notify_one();
}

/// Reads events until the member is closed; a reader that panics begins anew.
async fn keep_listening(inner: Arc<Inner>) {
    let mut bugs = 0;
    while !survives(listen(Arc::clone(&inner))).await {
        bugs += 1;
        inner.contain("reader of events");
        backoff(bugs).await;
    }
}

/// Reads events until the member is closed.
async fn listen(inner: Arc<Inner>) {
    let mut failures = 0;
    loop {
        backoff(failures).await;
        failures += 1;
        let Ok(mut opened) = inner.connector.open().await else {
            continue;
        };
        inner.turn(|core, _| core.listens());
        loop {
            let read = inner.turn(|core, _| core.next_read());
            if read == Read::Nothing {
                tokio::time::sleep(IDLE).await;
                continue;
            }
            let asked = ask(&mut opened, &inner.events_key, &read);
            let Ok(Ok(reply)) = tokio::time::timeout(SILENT, asked).await else {
                break;
            };
            let is_understood = inner.turn(|core, now| core.read(now, &read, &reply));
            if !is_understood {
                break;
            }
            failures = 0;
            inner.changed.notify_one();
        }
        opened.driver.abort();
    }
}

/// Pauses after failures.
async fn backoff(failures: i32) {
    pause(longest_pause_ms(failures, f64::INFINITY)).await;
}

fn longest_pause_ms(failures: i32, lease_ms: f64) -> f64 {
    if failures == 0 {
        return 0.0;
    }
    let doubled = BACKOFF_MS.0 * 2f64.powi(failures.min(10) - 1);
    doubled.min(BACKOFF_MS.1).min(lease_ms * BACKOFF_LEASES)
}

/// Pauses for a part of a time.
async fn pause(longest_ms: f64) {
    if longest_ms > 0.0 {
        // Full jitter: a server that comes back must not meet all members at once.
        let part = (process_now_ms() * 1e3) % 1000.0 / 1000.0;
        tokio::time::sleep(Duration::from_secs_f64(longest_ms * part / 1e3)).await;
    }
}

/// Runs a command and hands the reply to the core.
async fn call(
    link: Rc<RefCell<Link>>,
    inner: Arc<Inner>,
    (mut connection, is_asking): (MultiplexedConnection, bool),
    link_number: u64,
    number: u64,
    command: super::call::Command,
) {
    #[cfg(test)]
    super::faults::meet(super::faults::CALL);
    let outcome = evaluate(&mut connection, is_asking, &command).await;
    if link.borrow().number != link_number {
        return;
    }
    match outcome {
        Ok(value) => {
            // Not before: a server that refuses every call must not be asked without a pause.
            link.borrow_mut().failures = 0;
            let reply = reply_of(value);
            inner.turn(|core, now| core.replied(now, number, reply));
        }
        Err(error) if is_of_link(&error) => {
            let mut at = link.borrow_mut();
            at.end();
            at.failures += 1;
            drop(at);
            inner.turn(|core, _| core.disconnected(&describe(&error)));
        }
        Err(error) => {
            let reply = Reply::Failed(describe(&error));
            inner.turn(|core, now| core.replied(now, number, reply));
        }
    }
    inner.changed.notify_one();
}

async fn evaluate(
    connection: &mut MultiplexedConnection,
    is_asking: bool,
    command: &super::call::Command,
) -> Result<Value, RedisError> {
    let known = known(command.script);
    let by_hash = packed("EVALSHA", &known.hash, command);
    match send(connection, &by_hash, is_asking).await {
        // Unknown scripts are loaded by their text: a restarted server has forgotten them.
        Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
            let by_text = packed("EVAL", &known.text, command);
            send(connection, &by_text, is_asking).await
        }
        outcome => outcome,
    }
}

fn packed(name: &str, script: &str, command: &super::call::Command) -> Cmd {
    let mut packed = redis::cmd(name);
    packed.arg(script).arg(command.keys.len());
    for part in command.keys.iter().chain(&command.args) {
        packed.arg(part.as_slice());
    }
    packed
}

struct Known {
    hash: String,
    text: String,
}

/// Returns the text of a script and its hash, by which the server knows it.
fn known(script: Script) -> &'static Known {
    static KNOWN: std::sync::LazyLock<Vec<Known>> = std::sync::LazyLock::new(|| {
        SCRIPTS
            .iter()
            .map(|script| {
                let text = script.text();
                let digest = aws_lc_rs::digest::digest(
                    &aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY,
                    text.as_bytes(),
                );
                let hash = digest
                    .as_ref()
                    .iter()
                    .map(|byte| format!("{byte:02x}"))
                    .collect();
                Known { hash, text }
            })
            .collect()
    });
    &KNOWN[script as usize]
}

#[cfg(test)]
mod tests {
    #![expect(
        clippy::disallowed_methods,
        clippy::print_stderr,
        reason = "a real server and real threads; a skipped test says so"
    )]
    use super::*;
    use crate::cluster::faults::{CALL, LISTEN, LOCKED, SERVE, ask as fail};
    use crate::cluster::settings::{ClusterLimits, Policy};
    use std::process::{Child, Command, Stdio};

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

    fn until(what: &str, is_so: impl Fn() -> bool) {
        let begun = process_now_ms();
        while !is_so() {
            assert!(process_now_ms() - begun < 20_000.0, "{what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn a_member_tries_again_within_the_lease_in_which_others_wait_for_it() {
        for failures in 1..40 {
            assert!(longest_pause_ms(failures, 1000.0) <= 250.0);
        }
        assert_eq!(longest_pause_ms(0, 1000.0), 0.0);
        assert_eq!(longest_pause_ms(1, 6000.0), 50.0);
        assert_eq!(longest_pause_ms(40, 60_000.0), 2000.0);
    }

    #[test]
    fn a_task_that_panics_begins_anew_and_is_counted() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        drop(listener);
        let Some(_server) = start(port) else {
            eprintln!("skipped: neither redis-server nor valkey-server is on the PATH");
            return;
        };
        let endpoint = Endpoint {
            urls: vec![format!("redis://127.0.0.1:{port}")],
            sentinel_master: None,
            username: None,
            password: None,
            tls: None,
            connect_timeout_ms: 1000.0,
            allow_eviction: false,
        };
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
