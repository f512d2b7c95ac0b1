//! Real processes under a real filter.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use faultbox_common::{
    ACTION_DELAY, ACTION_DENY, CHANCE_ALWAYS, Driver, FLAG_SOCKETS_ONLY, MAX_PORTS, Rule, RuleKey,
    Site, endpoint,
};

use super::{Filter, Supervisor};
use crate::engine::{
    Decision, Errno, Exit, Launch, Object, Process, Record, RecordSink, Syscall, TraceLevel,
    launch::{self, Supervision, tests::role::in_role},
    tables::Tables,
};

mod delays;
mod descriptors;
mod effects;
mod failure;
mod interrupts;
mod lateness;
mod paths;
mod processes;
pub(in crate::engine) mod roles;
mod speed;

const LONG: Duration = Duration::from_secs(30);

/// The target that all rules are for.
const TARGET: u32 = 5;

/// Where the test dials from when it is the driver: `127.77.0.1`.
const DRIVER: Driver =
    Driver { v4: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 77, 0, 1], v6: [0; 16] };

/// Keeps what it is given.
#[derive(Default)]
struct Log(Mutex<Vec<Record>>);

impl RecordSink for Log {
    fn record(&self, record: Record) {
        self.0.lock().unwrap().push(record);
    }
}

/// A supervisor with tables of its own, and one target.
struct Stage {
    tables: Arc<Tables>,
    supervisor: Supervisor,
    log: Arc<Log>,
    slots: std::cell::Cell<u32>,
    /// Killed if the supervisor fails.
    pids: Arc<Mutex<Vec<u32>>>,
}

impl Stage {
    fn new(level: TraceLevel) -> Self {
        let tables = Arc::new(Tables::new(None).unwrap());
        let pids = Arc::new(Mutex::new(Vec::new()));
        let on_failure = {
            let pids = Arc::clone(&pids);
            Arc::new(move || {
                for pid in pids.lock().unwrap().iter() {
                    // SAFETY: no pointers. The processes have not been reaped.
                    unsafe { libc::kill(*pid as i32, libc::SIGKILL) };
                }
            })
        };
        let supervisor = Supervisor::start(Arc::clone(&tables), level, on_failure).unwrap();
        Self { tables, supervisor, log: Arc::default(), slots: 1.into(), pids }
    }

    /// Denies calls, of any peer or of these ports. Returns the rule's slot.
    fn deny(&self, names: &[&str], errno: &str, ports: &[u16]) -> u32 {
        let errno = Errno::from_name(errno).unwrap();
        let flags = if errno.is_network_only() { FLAG_SOCKETS_ONLY } else { 0 };
        let value = -i64::from(errno.raw());
        self.install(names, ports, Rule { value, flags, ..rule(ACTION_DENY) })
    }

    /// Delays calls.
    fn delay(&self, names: &[&str], time: Duration) -> u32 {
        let value = time.as_nanos() as i64;
        self.install(names, &[], Rule { value, ..rule(ACTION_DELAY) })
    }

    /// Puts a rule into a slot of its own, and arms it.
    fn install(&self, names: &[&str], ports: &[u16], rule: Rule) -> u32 {
        let slot = self.slots.replace(self.slots.get() + 1);
        self.tables.fill(slot, Rule { generation: slot, scope: slot, id: slot, ..rule });
        let mut site = Site {
            slot,
            generation: slot,
            globs: 0,
            peer_count: ports.len() as u32,
            peers: [0; MAX_PORTS],
        };
        for (peer, port) in site.peers.iter_mut().zip(ports) {
            *peer = endpoint([0; 16], *port);
        }
        for name in names {
            let syscall = Syscall::from_name(name).unwrap().number();
            self.tables.change_set(RuleKey { target: TARGET, syscall }, |set| {
                set.sites[set.count as usize] = site;
                set.count += 1;
            });
        }
        self.tables.arm(slot, true);
        slot
    }

    /// How often a rule fired.
    fn fired(&self, slot: u32) -> u64 {
        self.tables.rule(slot).counters.fired.load(std::sync::atomic::Ordering::SeqCst)
    }

    /// Starts a process under a filter for these calls.
    fn start(&self, launch: &Launch, traps: &[&str]) -> Process {
        let sink: Arc<dyn RecordSink> = self.log.clone();
        self.start_with(launch, traps, &sink).unwrap()
    }

    fn start_with(
        &self,
        launch: &Launch,
        traps: &[&str],
        sink: &Arc<dyn RecordSink>,
    ) -> Result<Process, launch::SpawnError> {
        let traps: Vec<_> = traps.iter().map(|name| Syscall::from_name(name).unwrap()).collect();
        let filter = Filter::new(&traps);
        let mut hand_over = |listener: Option<_>| {
            let listener = listener.expect("there is a filter");
            self.supervisor.add(TARGET, DRIVER, Arc::clone(sink), listener)
        };
        let supervision = Supervision { filter: Some(&filter), hand_over: &mut hand_over };
        let process = launch::start(launch, None, Some(supervision))?;
        self.pids.lock().unwrap().push(process.pid());
        Ok(process)
    }

    /// Runs this binary in a role to its end. Returns its exit code.
    fn play(&self, role: &str, arguments: &[&str], traps: &[&str]) -> i32 {
        let mut process = self.start(&in_role(role, arguments), traps);
        let exit = process.wait(LONG);
        assert_eq!(self.supervisor.failure(), None);
        match exit {
            Some(Exit::Code(code)) => code,
            other => panic!("{role} ended with {other:?}"),
        }
    }

    /// What was recorded of a call.
    fn records(&self, name: &str) -> Vec<Record> {
        let log = self.log.0.lock().unwrap();
        log.iter().filter(|record| record.syscall.name() == name).cloned().collect()
    }

    /// Whether some call of that name has this decision and this object.
    fn has(&self, name: &str, decision: Decision, object: &Object) -> bool {
        self.records(name).iter().any(|it| it.decision == decision && it.object == *object)
    }

    fn calls(&self, name: &str) -> u64 {
        self.tables.calls(TARGET, Syscall::from_name(name).unwrap().number())
    }
}

/// A rule that always fires.
fn rule(action: u8) -> Rule {
    Rule { chance: CHANCE_ALWAYS, action, ..Rule::default() }
}

/// The decision that fails a call with this error.
fn denied(errno: &str) -> Decision {
    Decision::Deny(Errno::from_name(errno).unwrap())
}

/// The write family and its like.
const IO: &[&str] = &["write", "writev", "read", "sendto", "recvfrom", "sendmsg", "recvmsg"];
