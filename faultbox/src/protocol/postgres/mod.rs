//! The steps of `postgres` interfaces: SQL by the simple query protocol, one message each.

mod login;
mod row_types;

use std::error::Error as _;

use tokio_postgres::{Error, NoTls, SimpleQueryMessage, SimpleQueryRow, config::Config};

pub use login::check_connstr;
use login::config;
use row_types::{RowTypes, column};

use super::{
    Dialer, Limit,
    client::{Failure, drive, talk},
    client_stream::ClientStream,
    credentials::Credentials,
};
use crate::spec::{Data, Login, Wanted};

/// Who asks what.
pub(super) struct Statement<'a> {
    /// One statement or several.
    pub(super) sql: &'a str,
    /// What of the answer is wanted.
    pub(super) wanted: Wanted,
    /// As whom, where the step says so.
    pub(super) login: &'a Login,
    /// As whom otherwise.
    pub(super) credentials: &'a Credentials,
}

/// Runs SQL. The answer is that of the last statement that has rows, or the number of rows of all
/// together. The error is the server's, with its SQLSTATE, or says what happened to the connection.
pub(super) fn run(
    dialer: &Dialer,
    (host, port): (&str, u16),
    statement: &Statement<'_>,
    limit: &Limit<'_>,
) -> Result<Data, String> {
    let config = config(statement.login, statement.credentials)?;
    talk(dialer, (host, port), limit, async |stream| exchange(stream, &config, statement).await)
}

async fn exchange(
    stream: ClientStream,
    config: &Config,
    statement: &Statement<'_>,
) -> Result<Data, Failure> {
    let types = RowTypes::default();
    let stream = stream.with_tap(types.reader());
    let (client, connection) =
        config.connect_raw(stream, NoTls).await.map_err(|error| failure(&error))?;
    let sql = statement.sql;
    // When the client is dropped, the connection sends Terminate.
    let work = async move { client.simple_query(sql).await };
    let messages = drive(work, connection).await.map_err(|error| failure(&error))?;
    Ok(match statement.wanted {
        Wanted::Rows => rows(&messages, &types),
        Wanted::Count => count(&messages),
    })
}

fn count(messages: &[SimpleQueryMessage]) -> Data {
    let counts = messages.iter().map(|message| match message {
        SimpleQueryMessage::CommandComplete(rows) => *rows,
        _ => 0,
    });
    let all = i64::try_from(counts.sum::<u64>()).unwrap_or(i64::MAX);
    Data::Map(vec![("rows_affected".to_owned(), Data::Int(all))])
}

fn rows(messages: &[SimpleQueryMessage], types: &RowTypes) -> Data {
    let (mut rows, mut current) = (Vec::new(), Vec::new());
    for message in messages {
        match message {
            SimpleQueryMessage::RowDescription(_) => {
                rows.clear();
                current = types.next();
            }
            SimpleQueryMessage::Row(row) => rows.push(row_of(row, &current)),
            _ => {}
        }
    }
    Data::List(rows)
}

fn row_of(row: &SimpleQueryRow, types: &[u32]) -> Data {
    let mut entries: Vec<(String, Data)> = Vec::with_capacity(row.len());
    for (index, declared) in row.columns().iter().enumerate() {
        let value = column(types.get(index).copied(), row.get(index));
        entries.push((declared.name().to_owned(), value));
    }
    Data::Map(entries)
}

fn failure(error: &Error) -> Failure {
    if let Some(error) = error.as_db_error() {
        let (severity, message) = (error.severity(), error.message());
        let mut text = format!("{severity}: {message} (SQLSTATE {})", error.code().code());
        if let Some(detail) = error.detail() {
            text = format!("{text}; {detail}");
        }
        if message.starts_with("no pg_hba.conf entry for host") {
            text.push_str(
                "; steps dial from an address of their own, which is let in by the line \
                 \"host all all 127.0.0.0/8 trust\"",
            );
        }
        return Failure::Server(text);
    }
    let text = in_full(error);
    if text.ends_with("password missing") {
        let text = "the server asks for a password: set POSTGRES_PASSWORD in env= of the service, \
                    or password= of the step";
        return Failure::Server(text.to_owned());
    }
    Failure::Client(text)
}

/// The client's words; it keeps the half that says more to itself.
fn in_full(error: &Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests;
