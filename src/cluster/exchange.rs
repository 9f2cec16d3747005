//! One command and its reply on a connection, and the meaning of a server's errors.

use super::reply::readable;
use redis::aio::MultiplexedConnection;
use redis::{ErrorKind, RedisError, ServerErrorKind, Value};

/// Begins the problem of an option that cannot be used.
pub(super) const CONFIG: &str = "ERR_CLUSTER_CONFIG";
/// Begins the problem of a server that cannot be used.
pub(super) const INCOMPATIBLE: &str = "ERR_CLUSTER_INCOMPATIBLE";

/// Sends one command, after `ASKING` if the slot is on its way to this server.
pub(super) async fn send(
    connection: &mut MultiplexedConnection,
    command: &redis::Cmd,
    is_asking: bool,
) -> Result<Value, RedisError> {
    if !is_asking {
        return connection
            .send_packed_command(command)
            .await
            .and_then(Value::extract_error);
    }
    // Together: a command of another call must not come between them.
    let mut pipeline = redis::pipe();
    pipeline.cmd("ASKING").add_command(command.clone());
    let replies = connection.send_packed_commands(&pipeline, 0, 2).await?;
    let mut last = Value::Nil;
    for reply in replies {
        last = reply.extract_error()?;
    }
    Ok(last)
}

/// Texts of a server that refuses a command for good: 7.0 and later name the user in a script's error.
const FORBIDDEN: [&str; 6] = [
    "can't run this command",
    // The client library hides the kind of an error of SELECT.
    "has no permissions to run",
    "can't access at least one of the keys",
    "ACL failure in script",
    "unknown command",
    "Unknown Redis command",
];

/// Describes an error: its detail is the server's text. A server that does not know a command repeats
/// its arguments, and that of `AUTH` is a password: they are left out.
pub(super) fn describe(error: &RedisError) -> String {
    let whole = error.to_string();
    let text = readable(whole.split(", with args").next().unwrap_or_default());
    if error.kind() == ErrorKind::Server(ServerErrorKind::NoPerm) || is_forbidden(&text) {
        return lacks(&text);
    }
    // The server lacks the database, or a Redis Cluster refuses every database but 0.
    if text.contains("DB index is out of range") || text.contains("SELECT is not allowed") {
        return format!("{CONFIG}: {text}");
    }
    text
}

/// True if a server's text says that it refuses the command for good.
pub(super) fn is_forbidden(text: &str) -> bool {
    FORBIDDEN.iter().any(|forbidden| text.contains(forbidden))
}

/// Returns the problem of a user that lacks a right.
pub(super) fn lacks(text: &str) -> String {
    format!("{INCOMPATIBLE}: the server's user lacks a right: {text}")
}

/// True if another connection may bring an answer: to another server, or later.
pub(super) fn is_of_link(error: &RedisError) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Server(
            ServerErrorKind::ReadOnly
                | ServerErrorKind::BusyLoading
                | ServerErrorKind::MasterDown
                | ServerErrorKind::ClusterDown
                | ServerErrorKind::Moved
                | ServerErrorKind::Ask
        )
    ) || error.is_io_error()
        || error.is_connection_dropped()
        || error.is_unrecoverable_error()
}
