//! From replies of the client library to those of the core.

use super::reply::Reply;
use redis::Value;

pub(super) fn reply_of(value: Value) -> Reply {
    match value {
        Value::Int(number) => Reply::Number(number),
        Value::BulkString(text) => Reply::Text(text),
        Value::SimpleString(text) => Reply::Text(text.into_bytes()),
        Value::Okay => Reply::Text(b"OK".to_vec()),
        Value::Array(list) => Reply::List(list.into_iter().map(reply_of).collect()),
        other => Reply::Failed(format!("an unexpected reply: {}", kind_of(&other))),
    }
}

/// Returns the kind of a value: a server that is none of Redis may send anything.
fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Nil => "nothing",
        Value::Map(_) => "a map",
        Value::Set(_) => "a set",
        Value::Double(_) | Value::Boolean(_) | Value::VerbatimString { .. } => "a type of RESP3",
        Value::Push { .. } => "a message that nobody asked for",
        _ => "an unknown type",
    }
}
