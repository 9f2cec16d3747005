//! The rights of the server's user: a user that lacks one is told at once, and not by the call that needs it.

use super::exchange::{describe, is_forbidden, lacks, send};
use super::reply::readable;
use redis::aio::MultiplexedConnection;
use redis::{FromRedisValue, Value};

/// The script that tries the commands.
const RIGHTS: &str = include_str!("lua/rights.lua");

/// Tries the commands of the scripts and of the reader of events. `key` leads a Redis Cluster to the server.
///
/// # Errors
/// The first command that the user may not run, or the server does not know. Errors that may pass are none of these.
pub(super) async fn missing_right(
    connection: &mut MultiplexedConnection,
    key: &[u8],
    is_asking: bool,
) -> Result<(), String> {
    let mut eval = redis::cmd("EVAL");
    eval.arg(RIGHTS).arg(1).arg(key);
    let reply = send(connection, &eval, is_asking).await;
    first_missing(reply.map_err(|error| describe(&error))?)
}

fn first_missing(reply: Value) -> Result<(), String> {
    let failed = Vec::<(String, String)>::from_redis_value(reply).unwrap_or_default();
    match failed.iter().find(|(_, error)| is_forbidden(error)) {
        Some((name, error)) => Err(lacks(&format!("{name}: {}", readable(error)))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::script::SCRIPTS;
    use super::*;
    use std::collections::BTreeSet;

    /// Returns the texts in quotes after each `mark`.
    fn quoted<'a>(text: &'a str, mark: &str) -> BTreeSet<&'a str> {
        let parts = text.split(mark).skip(1);
        parts.filter_map(|part| part.split('\'').next()).collect()
    }

    #[test]
    fn each_command_of_the_scripts_is_tried_or_run_by_each_join_and_documented() {
        let tried = quoted(RIGHTS, "try('");
        let documented = include_str!("../../docs/cluster.md").to_lowercase();
        for script in SCRIPTS {
            for command in quoted(&script.text(), "call('") {
                let is_joins = ["HSET", "HINCRBY"].contains(&command);
                assert!(is_joins || tried.contains(command), "{command}");
            }
        }
        for command in tried.into_iter().chain(["HSET", "HINCRBY", "INFO"]) {
            let right = format!("+{}", command.to_lowercase());
            assert!(documented.contains(&right), "{right}");
        }
    }

    #[test]
    fn a_missing_right_is_told_and_an_error_that_may_pass_is_not() {
        let reply = |pairs: &[(&str, &str)]| {
            let parts = pairs.iter().flat_map(|&(name, error)| [name, error]);
            let parts = parts.map(|part| Value::BulkString(part.as_bytes().to_vec()));
            Value::Array(parts.collect())
        };
        let full = (
            "SET",
            "OOM command not allowed when used memory > 'maxmemory'.",
        );
        assert_eq!(first_missing(reply(&[])), Ok(()));
        assert_eq!(first_missing(reply(&[full])), Ok(()));
        for text in [
            "The user executing the script can't run this command or subcommand",
            "ERR ACL failure in script: User svc has no permissions to run the 'xread' command",
            "ERR Unknown Redis command called from script",
        ] {
            let problem = first_missing(reply(&[full, ("XREAD", text)]));
            let problem = problem.expect_err("a missing right");
            assert!(
                problem.starts_with("ERR_CLUSTER_INCOMPATIBLE: "),
                "{problem}"
            );
            assert!(problem.contains("XREAD"), "{problem}");
        }
    }
}
