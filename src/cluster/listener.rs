//! The connection that waits for events; `events` decides what it reads.

use super::connect::Opened;
use super::events::Read;
use super::exchange::{describe, send};
use super::reply::Reply;
use super::shared_core::SharedCore;
use super::tasks::{Owned, backoff, survives};
use super::wire::reply_of;
use redis::{RedisError, Value};
use std::sync::Arc;
use std::time::Duration;

/// Longest time that the server waits for an event, ms.
const BLOCK_MS: u64 = 1000;
/// Time after which a connection that does not answer is given up.
const SILENT: Duration = Duration::from_millis(3 * BLOCK_MS);
/// Pause while there is nothing to read.
const IDLE: Duration = Duration::from_millis(20);
/// Entries of one reply.
const ENTRIES: usize = 256;

/// Reads events until the member is closed; a reader that panics begins anew.
pub(super) async fn keep_listening(shared: Arc<SharedCore>) {
    let mut bugs = 0;
    while !survives(listen(Arc::clone(&shared))).await {
        bugs += 1;
        shared.contain("reader of events");
        backoff(bugs).await;
    }
}

/// Reads events until the member is closed.
async fn listen(shared: Arc<SharedCore>) {
    let mut failures = 0;
    loop {
        backoff(failures).await;
        failures += 1;
        let problem = match shared.connector.open().await {
            Ok(opened) => read_on(&shared, opened, &mut failures).await,
            Err(problem) => problem,
        };
        shared.turn(|core, _| core.unheard(&problem));
    }
}

/// Reads events on a connection until a read fails; returns the problem.
async fn read_on(shared: &SharedCore, mut opened: Opened, failures: &mut i32) -> String {
    let _driver = Owned(opened.driver.clone());
    shared.turn(|core, _| core.listens());
    loop {
        let read = shared.turn(|core, _| core.next_read());
        if read == Read::Nothing {
            tokio::time::sleep(IDLE).await;
            continue;
        }
        let asked = ask(&mut opened, &shared.events_key, &read);
        let reply = match tokio::time::timeout(SILENT, asked).await {
            Ok(Ok(reply)) => reply,
            Ok(Err(error)) => return describe(&error),
            Err(_) => return format!("no answer within {} ms", SILENT.as_millis()),
        };
        if !shared.turn(|core, now| core.read(now, &read, &reply)) {
            return reply.problem();
        }
        // Only the read that waits brings events. A server may answer the one before it and refuse this one each time:
        // it must not be asked without a pause.
        if matches!(read, Read::After(_)) {
            *failures = 0;
        }
        shared.changed.notify_one();
    }
}

/// Reads once.
async fn ask(opened: &mut Opened, key: &[u8], read: &Read) -> Result<Reply, RedisError> {
    #[cfg(test)]
    super::faults::meet(super::faults::LISTEN);
    let mut command = match read {
        Read::Nothing => return Ok(Reply::List(Vec::new())),
        Read::Verify(_) => redis::cmd("XRANGE"),
        Read::Tail => redis::cmd("XREVRANGE"),
        Read::After(_) => redis::cmd("XREAD"),
    };
    match read {
        Read::Nothing => {}
        Read::Verify(id) => {
            command.arg(key).arg(id).arg(id);
        }
        Read::Tail => {
            command.arg(key).arg("+").arg("-").arg("COUNT").arg(1);
        }
        Read::After(id) => {
            command.arg("COUNT").arg(ENTRIES).arg("BLOCK").arg(BLOCK_MS);
            command.arg("STREAMS").arg(key).arg(id);
        }
    }
    let value = send(&mut opened.connection, &command, opened.is_asking).await?;
    Ok(match value {
        // Nothing came in time.
        Value::Nil => Reply::List(Vec::new()),
        other => reply_of(other),
    })
}
