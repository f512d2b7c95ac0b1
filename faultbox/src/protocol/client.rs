//! Clients that others have written, over connections that are ours.
//!
//! They are asynchronous, so each gets a runtime of its own, on this thread, for as long as it
//! works: no task outlives its step.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    time::Duration,
};

use tokio::{net::TcpStream, runtime, time::timeout};

use super::{Dialer, Limit, client_stream::ClientStream};

/// How long a step of a database may take, from the dial to the last byte.
pub(super) const TOTAL: Duration = Duration::from_secs(30);
/// How long saying goodbye may take once there is an answer.
const GOODBYE: Duration = Duration::from_millis(250);

/// Why a client has no answer.
pub(super) enum Failure {
    /// The server has said so.
    Server(String),
    /// What the client makes of it. What has happened to the connection says more, if anything has.
    Client(String),
}

/// Connects to `host:port` and gives the connection to a client. The error says why there is no
/// answer.
pub(super) fn talk<T>(
    dialer: &Dialer,
    (host, port): (&str, u16),
    limit: &Limit<'_>,
    client: impl AsyncFnOnce(ClientStream) -> Result<T, Failure>,
) -> Result<T, String> {
    let stream = dialer
        .connect(host, port, limit)
        .map_err(|error| format!("connect to {host}:{port}: {error}"))?;
    let runtime = runtime::Builder::new_current_thread().enable_io().enable_time().build();
    let runtime = runtime.map_err(|error| format!("cannot start a client: {error}"))?;
    let answered = runtime.block_on(limit.bound(async {
        let stream = TcpStream::from_std(stream).map_err(|error| error.to_string())?;
        let stream = ClientStream::new(stream);
        let trouble = stream.trouble();
        client(stream).await.map_err(|failure| match failure {
            Failure::Server(text) => text,
            Failure::Client(text) => trouble.first().unwrap_or(text),
        })
    }));
    answered.map_err(|error| error.to_string())?
}

/// Runs `work`, and beside it `driver`, which moves its messages and, when the work is done, closes
/// the connection. If the driver ends before, it is dropped, by which the work finds out.
pub(super) async fn drive<T>(work: impl Future<Output = T>, driver: impl Future) -> T {
    let (mut work, mut driver) = (pin!(work), pin!(Some(driver)));
    let result = poll_fn(|context| {
        if let Some(running) = driver.as_mut().as_pin_mut()
            && running.poll(context).is_ready()
        {
            driver.set(None);
        }
        work.as_mut().poll(context)
    })
    .await;
    if let Some(running) = driver.as_mut().as_pin_mut() {
        // The answer is there; whether the server takes leave as well does not matter.
        let _ = timeout(GOODBYE, running).await;
    }
    result
}
