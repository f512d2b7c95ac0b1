//! The steps of `redis` interfaces: one command each.

use redis::{
    AsyncConnectionConfig, Cmd, ErrorKind, RedisConnectionInfo, RedisError, Value,
    aio::MultiplexedConnection,
};

use super::{
    Dialer, Limit,
    client::{Failure, drive, talk},
    client_stream::ClientStream,
    credentials::Credentials,
};
use crate::spec::Data;

/// Sends a command, after `AUTH` if there is a password, and returns its reply. The error is the
/// server's, word by word, or says what happened to the connection.
pub(super) fn command(
    dialer: &Dialer,
    (host, port): (&str, u16),
    credentials: &Credentials,
    words: &[String],
    limit: &Limit<'_>,
) -> Result<Data, String> {
    talk(dialer, (host, port), limit, async |stream| exchange(stream, credentials, words).await)
}

async fn exchange(
    stream: ClientStream,
    credentials: &Credentials,
    words: &[String],
) -> Result<Data, Failure> {
    // Nothing is sent that the step does not ask for: rules count calls.
    let info = RedisConnectionInfo::default().set_skip_set_lib_name();
    let config = AsyncConnectionConfig::new().set_response_timeout(None);
    let (mut connection, driver) = MultiplexedConnection::new_with_config(&info, stream, config)
        .await
        .map_err(|error| failure(&error))?;
    let work = async move {
        if let Some(password) = &credentials.password {
            let words = ["AUTH".to_owned()].into_iter().chain(credentials.user.clone());
            ask(&mut connection, words.chain([password.clone()])).await?;
        }
        ask(&mut connection, words.iter().cloned()).await
    };
    drive(work, driver).await
}

async fn ask(
    connection: &mut MultiplexedConnection,
    words: impl Iterator<Item = String>,
) -> Result<Data, Failure> {
    let mut command = Cmd::new();
    for word in words {
        command.arg(word);
    }
    match connection.send_packed_command(&command).await.map_err(|error| failure(&error))? {
        Value::ServerError(error) => Err(Failure::Server(reply(error.code(), error.details()))),
        value => Ok(data(value)),
    }
}

/// An error as the server sends it: `WRONGTYPE Operation against a key …`.
fn reply(code: &str, details: Option<&str>) -> String {
    details.map_or_else(|| code.to_owned(), |details| format!("{code} {details}"))
}

fn failure(error: &RedisError) -> Failure {
    match error.code() {
        Some(code) => Failure::Server(reply(code, error.detail())),
        None if error.kind() == ErrorKind::Parse => {
            Failure::Client("the answer is not of the Redis protocol".to_owned())
        }
        None => Failure::Client(error.to_string()),
    }
}

fn data(value: Value) -> Data {
    let list = |values: Vec<Value>| Data::List(values.into_iter().map(data).collect());
    match value {
        Value::Nil => Data::None,
        Value::Int(it) => Data::Int(it),
        Value::BulkString(it) | Value::BigNumber(it) => Data::text(&it),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => Data::Text(text),
        Value::Okay => Data::Text("OK".to_owned()),
        Value::Array(values) | Value::Set(values) | Value::Push { data: values, .. } => {
            list(values)
        }
        Value::Map(entries) => {
            let name = |key| match data(key) {
                Data::Text(text) => text,
                other => other.to_json(),
            };
            Data::Map(entries.into_iter().map(|(key, it)| (name(key), data(it))).collect())
        }
        Value::Attribute { data: inner, .. } => data(*inner),
        Value::Double(it) => Data::Float(it),
        Value::Boolean(it) => Data::Bool(it),
        Value::ServerError(error) => Data::Text(reply(error.code(), error.details())),
        other => Data::Text(format!("{other:?}")),
    }
}

#[cfg(test)]
mod tests;
