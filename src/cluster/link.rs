//! The link of a member to its server: one connection, made anew whenever it is lost, and the calls on it.
//! Carries out what `core` asks for, and makes no decision of its own.

use super::call::Command;
use super::core::Action;
use super::evaluate::evaluate;
use super::exchange::{describe, is_of_link};
use super::listener::keep_listening;
use super::reply::Reply;
use super::shared_core::SharedCore;
use super::tasks::{Owned, backoff, backoff_within, survives};
use super::wire::reply_of;
use crate::clock::process_now_ms;
use redis::aio::MultiplexedConnection;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::{AbortHandle, spawn_local};

/// Bugs in a row after which a member is given up, and the time without one that begins a new row, ms.
const BUGS_MAX: i32 = 10;
const BUGS_APART_MS: f64 = 60_000.0;

/// Serves a member. A task that panics begins anew; a member whose task panics again and again refuses everybody.
pub(super) async fn guard(shared: Arc<SharedCore>) {
    let mut bugs = 0;
    loop {
        let begun = process_now_ms();
        if spawn_local(serve(Arc::clone(&shared))).await.is_ok() {
            return;
        }
        bugs = if process_now_ms() - begun > BUGS_APART_MS {
            1
        } else {
            bugs + 1
        };
        if bugs >= BUGS_MAX {
            return shared.abandon();
        }
        shared.contain("network");
        let lost = catch_unwind(AssertUnwindSafe(|| {
            shared.turn(|core, now| {
                core.disconnected(now, "a bug in the cluster's network was contained")
            });
        }));
        if lost.is_err() {
            return shared.abandon();
        }
        backoff(bugs).await;
    }
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

/// Carries out the work of the core until the member is closed.
async fn serve(shared: Arc<SharedCore>) {
    let link = Rc::new(RefCell::new(Link::default()));
    let _ends = OwnedLink(Rc::clone(&link));
    let _listener = Owned(spawn_local(keep_listening(Arc::clone(&shared))).abort_handle());
    loop {
        #[cfg(test)]
        super::faults::meet(super::faults::SERVE);
        let (actions, wait_ms, is_closed) = shared.turn(|core, now| {
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
                        Arc::clone(&shared),
                        (connection, at.is_asking),
                        at.number,
                        number,
                        command,
                    );
                    let task = spawn_local(or_unlink(Rc::clone(&link), Arc::clone(&shared), call));
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
            let connect = connect(Rc::clone(&link), Arc::clone(&shared));
            let task = spawn_local(or_unlink(Rc::clone(&link), Arc::clone(&shared), connect));
            at.connecting = Some(task.abort_handle());
        }
        let wait = Duration::from_secs_f64((wait_ms / 1e3).clamp(0.000_5, 1.0));
        let _ = tokio::time::timeout(wait, shared.changed.notified()).await;
    }
}

/// Runs a task of a link, which is made anew if the task panics.
async fn or_unlink(
    link: Rc<RefCell<Link>>,
    shared: Arc<SharedCore>,
    task: impl Future<Output = ()> + 'static,
) {
    if survives(task).await {
        return;
    }
    shared.contain("connection");
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
    shared.turn(|core, now| {
        core.disconnected(now, "a bug in the cluster's connection was contained")
    });
    shared.changed.notify_one();
}

/// Makes a connection after a pause that grows with each failure.
async fn connect(link: Rc<RefCell<Link>>, shared: Arc<SharedCore>) {
    let failures = link.borrow().failures;
    backoff_within(failures, shared.settings.lease_ms).await;
    let made = shared.connector.open().await;
    let mut at = link.borrow_mut();
    at.is_connecting = false;
    match made {
        Ok(opened) => {
            at.end();
            at.connection = Some(opened.connection);
            at.driver = Some(opened.driver);
            at.is_asking = opened.is_asking;
            drop(at);
            shared.turn(|core, now| core.connected(now, &opened.run));
        }
        Err(problem) => {
            at.failures += 1;
            drop(at);
            shared.turn(|core, now| core.disconnected(now, &problem));
        }
    }
    shared.changed.notify_one();
}

/// Runs a command and hands the reply to the core.
async fn call(
    link: Rc<RefCell<Link>>,
    shared: Arc<SharedCore>,
    (mut connection, is_asking): (MultiplexedConnection, bool),
    link_number: u64,
    number: u64,
    command: Command,
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
            shared.turn(|core, now| core.replied(now, number, reply));
        }
        Err(error) if is_of_link(&error) => {
            let mut at = link.borrow_mut();
            at.end();
            at.failures += 1;
            drop(at);
            shared.turn(|core, now| core.disconnected(now, &describe(&error)));
        }
        Err(error) => {
            let reply = Reply::Failed(describe(&error));
            shared.turn(|core, now| core.replied(now, number, reply));
        }
    }
    shared.changed.notify_one();
}
