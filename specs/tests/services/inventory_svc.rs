//! The commands of inventory-svc and its log.

use crate::program::Program;
use std::fs;
use std::path::PathBuf;

/// A log of this test's own, removed with the value.
pub(crate) struct Log(pub(crate) PathBuf);

impl Log {
    pub(crate) fn new(name: &str) -> Self {
        let file = format!("faultbox-{name}-{}.wal", std::process::id());
        let log = Self(std::env::temp_dir().join(file));
        log.remove();
        log
    }

    pub(crate) fn start(&self) -> Program {
        Program::start("inventory-svc", &[("WAL_PATH", self.0.to_str().unwrap())])
    }

    fn remove(&self) {
        // It is not there before the first reservation.
        let _ = fs::remove_file(&self.0);
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.remove();
    }
}

#[test]
fn stock_is_checked_reserved_and_logged() {
    let log = Log::new("reserve");
    let inventory = log.start();
    assert_eq!(inventory.ask("ping"), "PONG");
    assert_eq!(inventory.ask("CHECK widget"), "100");
    assert_eq!(inventory.ask("CHECK gadget"), "50");
    assert_eq!(inventory.ask("CHECK gizmo"), "25");
    assert_eq!(inventory.ask("CHECK unicorn"), "NOT_FOUND");
    assert!(!log.0.exists());
    assert_eq!(inventory.ask("RESERVE widget 1"), "OK 99");
    assert_eq!(inventory.ask("reserve gizmo 25"), "OK 0");
    assert_eq!(inventory.ask("CHECK gizmo"), "0");
    assert_eq!(inventory.ask("RESERVE gizmo 1"), "ERR insufficient_stock 0");
    assert_eq!(inventory.ask("RESERVE gadget 51"), "ERR insufficient_stock 50");
    assert_eq!(inventory.ask("RESERVE unicorn 1"), "ERR not_found");
    let written = fs::read_to_string(&log.0).unwrap();
    assert_eq!(written, "RESERVE widget 1\nRESERVE gizmo 25\n");
    assert_eq!(inventory.send(b"QUIT\n"), "");
}

#[test]
fn what_cannot_be_understood_is_told_why() {
    let log = Log::new("usage");
    let inventory = log.start();
    assert_eq!(inventory.ask("CHECK"), "ERR usage: CHECK sku");
    for line in ["RESERVE", "RESERVE widget", "RESERVE widget "] {
        assert_eq!(inventory.ask(line), "ERR usage: RESERVE sku qty", "{line:?}");
    }
    for quantity in ["0", "-1", "1.5", "many", "1 2", "99999999999999999999"] {
        let line = format!("RESERVE widget {quantity}");
        assert_eq!(inventory.ask(&line), "ERR bad qty", "{line:?}");
    }
    assert_eq!(inventory.ask("Steal widget"), "ERR unknown: Steal");
    assert_eq!(inventory.ask("CHECK widget"), "100");
}

#[test]
fn a_log_that_fails_leaves_the_stock_alone() {
    for (path, error) in [
        ("/no/such/directory/x.wal", "open: No such file or directory"),
        ("/dev/full", "write: No space left on device"),
        ("/dev/null", "fsync: Invalid argument"),
    ] {
        let inventory = Program::start("inventory-svc", &[("WAL_PATH", path)]);
        let answer = inventory.ask("RESERVE widget 1");
        assert_eq!(answer, format!("ERR wal: {error}"));
        assert_eq!(inventory.ask("CHECK widget"), "100");
    }
}

#[test]
fn the_log_of_an_earlier_run_is_appended_to_and_never_read_back() {
    let log = Log::new("earlier");
    fs::write(&log.0, "RESERVE widget 7\n").unwrap();
    let inventory = log.start();
    assert_eq!(inventory.ask("RESERVE widget 1"), "OK 99");
    let written = fs::read_to_string(&log.0).unwrap();
    assert_eq!(written, "RESERVE widget 7\nRESERVE widget 1\n");
}

#[test]
fn reservations_at_the_same_time_never_sell_twice() {
    let log = Log::new("race");
    let inventory = log.start();
    let confirmed: usize = std::thread::scope(|scope| {
        let customers: Vec<_> = (0..10)
            .map(|_| {
                scope.spawn(|| {
                    (0..5).filter(|_| inventory.ask("RESERVE gizmo 1").starts_with("OK ")).count()
                })
            })
            .collect();
        customers.into_iter().map(|one| one.join().unwrap()).sum()
    });
    assert_eq!(confirmed, 25);
    assert_eq!(inventory.ask("CHECK gizmo"), "0");
    assert_eq!(fs::read_to_string(&log.0).unwrap().lines().count(), 25);
}
