//! Against a real server where one is installed, and against some that misbehave.

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use super::{
    super::{
        credentials,
        installed::{self, Installed},
        server::{Server, refused_port, reset, soon},
    },
    *,
};
use crate::spec::Protocol;

fn words(line: &str) -> Vec<String> {
    line.split(' ').map(str::to_owned).collect()
}

fn ask_as(port: u16, env: &[(&str, &str)], line: &str) -> Result<Data, String> {
    let env: Vec<_> =
        env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let credentials = credentials(Protocol::Redis, &env);
    let place = ("127.0.0.1", port);
    command(&Dialer::default(), place, &credentials, &words(line), &soon())
}

fn ask(port: u16, line: &str) -> Result<Data, String> {
    ask_as(port, &[], line)
}

fn text(text: &str) -> Data {
    Data::Text(text.to_owned())
}

/// A server that takes one command and then does this.
fn answering(answer: impl Fn(&mut TcpStream) + Send + Sync + 'static) -> Server {
    Server::start(move |mut stream| {
        let _ = stream.read(&mut [0; 1024]).unwrap();
        answer(&mut stream);
        // Until the client leaves.
        let _ = stream.read(&mut [0; 1024]);
    })
}

/// What a server's reply becomes.
fn reply_of(reply: &'static [u8]) -> Result<Data, String> {
    let server = answering(|stream| stream.write_all(reply).unwrap());
    ask(server.port, "PING")
}

#[test]
fn commands_do_what_they_do() {
    let Some(Installed { port, .. }) = &installed::redis(&[]) else { return };
    for (line, expected) in [
        ("PING", text("PONG")),
        ("SET cart 3", text("OK")),
        ("INCR cart", Data::Int(4)),
        ("GET cart", text("4")),
        ("GET nothing", Data::None),
        ("RPUSH queue a", Data::Int(1)),
        ("RPUSH queue b", Data::Int(2)),
        ("LPUSH queue c", Data::Int(3)),
        ("LRANGE queue 0 -1", Data::List(vec![text("c"), text("a"), text("b")])),
        ("LRANGE queue 1 1", Data::List(vec![text("a")])),
        ("DEL queue", Data::Int(1)),
        ("KEYS *", Data::List(vec![text("cart")])),
        ("CONFIG GET maxmemory", Data::List(vec![text("maxmemory"), text("0")])),
    ] {
        assert_eq!(ask(*port, line), Ok(expected), "{line}");
    }
    let wrong = "WRONGTYPE Operation against a key holding the wrong kind of value";
    assert_eq!(ask(*port, "LPUSH cart x"), Err(wrong.to_owned()));
    let unknown = ask(*port, "NONSENSE").unwrap_err();
    assert!(unknown.starts_with("ERR unknown command 'NONSENSE'"), "{unknown}");
    let Ok(Data::Map(hello)) = ask(*port, "HELLO 3") else { panic!("no map") };
    assert!(hello.contains(&("proto".to_owned(), Data::Int(3))), "{hello:?}");
    assert_eq!(ask(*port, "SHUTDOWN NOSAVE"), Err("the server closed the connection".to_owned()));
}

#[test]
fn the_environment_says_who_asks() {
    let settings = ["--requirepass", "sesame", "--user", "shop", "on", ">4711", "~*", "+@all"];
    let Some(Installed { port, .. }) = &installed::redis(&settings) else { return };
    assert_eq!(ask(*port, "GET a"), Err("NOAUTH Authentication required.".to_owned()));
    let password = ("REDIS_PASSWORD", "sesame");
    assert_eq!(ask_as(*port, &[password], "SET a 1"), Ok(text("OK")));
    let shop = [("REDIS_USER", "shop"), ("REDIS_PASSWORD", "4711")];
    assert_eq!(ask_as(*port, &shop, "ACL WHOAMI"), Ok(text("shop")));
    let wrong = "WRONGPASS invalid username-password pair or user is disabled.";
    let answer = ask_as(*port, &[("REDIS_PASSWORD", "4711")], "GET a");
    assert_eq!(answer, Err(wrong.to_owned()));
}

#[test]
fn a_password_that_the_server_does_not_know_of_is_an_error() {
    let Some(Installed { port, .. }) = &installed::redis(&[]) else { return };
    let error = ask_as(*port, &[("REDIS_PASSWORD", "x")], "PING").unwrap_err();
    assert!(error.contains("without any password configured"), "{error}");
}

#[test]
fn nothing_is_sent_but_the_command() {
    let (sender, receiver) = mpsc::channel();
    let server = Server::start(move |mut stream| {
        let mut all = Vec::new();
        let mut buffer = [0; 256];
        // To the end of the stream: what comes after the answer counts, too.
        while let Ok(count @ 1..) = stream.read(&mut buffer) {
            all.extend_from_slice(&buffer[..count]);
            stream.write_all(b"+OK\r\n").unwrap();
        }
        sender.send(String::from_utf8(all).unwrap()).unwrap();
    });
    ask(server.port, "SET key a").unwrap();
    let sent = receiver.recv_timeout(Duration::from_secs(5)).unwrap();
    assert_eq!(sent, "*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$1\r\na\r\n");
    ask_as(server.port, &[("REDIS_PASSWORD", "p"), ("REDIS_USER", "u")], "PING").unwrap();
    let sent = receiver.recv_timeout(Duration::from_secs(5)).unwrap();
    assert_eq!(sent, "*3\r\n$4\r\nAUTH\r\n$1\r\nu\r\n$1\r\np\r\n*1\r\n$4\r\nPING\r\n");
}

#[test]
fn every_kind_of_reply_has_its_value() {
    for (reply, expected) in [
        (&b"$-1\r\n"[..], Data::None),
        (b"*-1\r\n", Data::None),
        (b"_\r\n", Data::None),
        (b":-7\r\n", Data::Int(-7)),
        (b"+QUEUED\r\n", text("QUEUED")),
        (b"$4\r\na\r\nb\r\n", text("a\r\nb")),
        (b"$2\r\n\xff!\r\n", text("\u{fffd}!")),
        (
            b"*2\r\n*1\r\n:1\r\n-ERR no\r\n",
            Data::List(vec![Data::List(vec![Data::Int(1)]), text("ERR no")]),
        ),
        (
            b"%2\r\n+a\r\n:1\r\n:2\r\n#t\r\n",
            Data::Map(vec![("a".into(), Data::Int(1)), ("2".into(), Data::Bool(true))]),
        ),
        (b"~1\r\n,2.5\r\n", Data::List(vec![Data::Float(2.5)])),
        (b"=8\r\ntxt:some\r\n", text("some")),
        (
            b"(3492890328409238509324850943850943825024385\r\n",
            text("3492890328409238509324850943850943825024385"),
        ),
        (b"|1\r\n+ttl\r\n:3600\r\n+value\r\n", text("value")),
    ] {
        assert_eq!(reply_of(reply), Ok(expected), "{}", String::from_utf8_lossy(reply));
    }
}

#[test]
fn errors_are_the_servers_words() {
    for error in [
        "LOADING Redis is loading the dataset in memory",
        "MISCONF Redis is configured to save RDB snapshots",
        "ERR no",
        "READONLY",
        "SHOP closed today",
    ] {
        let error = error.to_owned();
        let server = answering({
            let error = error.clone();
            move |stream| write!(stream, "-{error}\r\n").unwrap()
        });
        assert_eq!(ask(server.port, "GET a"), Err(error));
    }
}

#[test]
fn what_happens_to_the_connection_is_said_in_the_systems_words() {
    let held = refused_port();
    let port = held.port;
    let refused = format!("connect to 127.0.0.1:{port}: Connection refused (os error 111)");
    assert_eq!(ask(port, "PING"), Err(refused));

    for half in [&b""[..], b"$100\r\nhalf", b"*2\r\n:1\r\n"] {
        let closed = Server::start(move |mut stream| {
            let _ = stream.read(&mut [0; 1024]).unwrap();
            stream.write_all(half).unwrap();
        });
        let answer = ask(closed.port, "PING");
        assert_eq!(answer, Err("the server closed the connection".to_owned()));

        let cut = Server::start(move |mut stream| {
            let _ = stream.read(&mut [0; 1024]).unwrap();
            stream.write_all(half).unwrap();
            // What was sent before a reset may be thrown away with it.
            thread::sleep(Duration::from_millis(50));
            reset(&stream);
        });
        let answer = ask(cut.port, "PING");
        assert_eq!(answer, Err("Connection reset by peer (os error 104)".to_owned()));
    }
}

#[test]
fn a_reply_may_arrive_byte_by_byte() {
    let server = answering(|stream| {
        for byte in b"*2\r\n$3\r\none\r\n:2\r\n" {
            stream.write_all(&[*byte]).unwrap();
            thread::sleep(Duration::from_millis(5));
        }
    });
    let expected = Data::List(vec![text("one"), Data::Int(2)]);
    assert_eq!(ask(server.port, "PING"), Ok(expected));
}

#[test]
fn a_silent_server_costs_the_limit_and_no_more() {
    let server = answering(|_| ());
    let credentials = Credentials::default();
    let place = ("127.0.0.1", server.port);
    let started = Instant::now();
    let limit = soon().within(Duration::from_millis(300));
    let answer = command(&Dialer::default(), place, &credentials, &words("PING"), &limit);
    assert_eq!(answer, Err("timed out after 300ms".to_owned()));
    assert!((300..2000).contains(&started.elapsed().as_millis()));

    let started = Instant::now();
    let cancelled = || started.elapsed() > Duration::from_millis(100);
    let limit = Limit::new(started + Duration::from_secs(20), &cancelled);
    let answer = command(&Dialer::default(), place, &credentials, &words("PING"), &limit);
    assert_eq!(answer, Err("stopped: the test has ended".to_owned()));
    assert!(started.elapsed() < Duration::from_secs(2));
}

#[test]
fn a_flood_is_an_error_and_no_memory_hog() {
    for begin in ["$2000000000\r\n", "*2000000000\r\n"] {
        let flood = answering(move |stream| {
            stream.write_all(begin.as_bytes()).unwrap();
            let block = b":1\r\n".repeat(1 << 14);
            while stream.write_all(&block).is_ok() {}
        });
        let answer = ask(flood.port, "GET a");
        assert_eq!(answer, Err("the answer is larger than 16 MiB".to_owned()));
    }
}

#[test]
fn a_server_of_another_protocol_is_said_to_be_one() {
    let error = reply_of(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap_err();
    assert_eq!(error, "the answer is not of the Redis protocol");
}
