//! Peers that misbehave in ways no real service offers.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::thread;

/// What a [`misbehaving_peer`] does with a connection once it has read a line.
#[derive(Clone, Copy)]
pub(crate) enum Behaviour {
    /// Closes it.
    Close,
    /// Sends these bytes, then closes it.
    Send(&'static str),
    /// Keeps it open and says nothing.
    Silence,
}

/// Listens on a free port of 127.0.0.1; the connections are treated in turn, the last behaviour
/// for all that follow. The thread ends with the test process.
pub(crate) fn misbehaving_peer(behaviours: &'static [Behaviour]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        let mut held = Vec::new();
        for (count, stream) in listener.incoming().enumerate() {
            let mut reader = BufReader::new(stream.unwrap());
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            match behaviours[count.min(behaviours.len() - 1)] {
                Behaviour::Close => {}
                Behaviour::Send(text) => reader.get_mut().write_all(text.as_bytes()).unwrap(),
                Behaviour::Silence => held.push(reader),
            }
        }
    });
    format!("localhost:{port}")
}
