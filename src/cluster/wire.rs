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
        other => Reply::Failed(format!("an unexpected reply: {other:?}")),
    }
}
