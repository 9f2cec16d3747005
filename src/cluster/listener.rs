//! The commands of the connection that waits for events; `events` decides what it reads.

use super::connect::{Opened, send};
use super::events::Read;
use super::reply::Reply;
use super::wire::reply_of;
use redis::{RedisError, Value};
use std::time::Duration;

/// Longest time that the server waits for an event, ms.
const BLOCK_MS: u64 = 1000;
/// Time after which a connection that does not answer is given up.
pub(super) const SILENT: Duration = Duration::from_millis(3 * BLOCK_MS);
/// Pause while there is nothing to read.
pub(super) const IDLE: Duration = Duration::from_millis(20);
/// Entries of one reply.
const ENTRIES: usize = 256;

/// Reads once.
pub(super) async fn ask(opened: &mut Opened, key: &[u8], read: &Read) -> Result<Reply, RedisError> {
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
