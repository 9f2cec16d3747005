//! Runs a script on the server: by its hash, and by its text where the server does not know it.

use super::call::Command;
use super::exchange::send;
use super::script::{SCRIPTS, Script};
use redis::aio::MultiplexedConnection;
use redis::{Cmd, ErrorKind, RedisError, ServerErrorKind, Value};

/// Runs a command.
pub(super) async fn evaluate(
    connection: &mut MultiplexedConnection,
    is_asking: bool,
    command: &Command,
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

fn packed(name: &str, script: &str, command: &Command) -> Cmd {
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
