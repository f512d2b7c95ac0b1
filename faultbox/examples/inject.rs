//! Breaks one process that it spawns, without any spec:
//!
//! ```sh
//! cargo run --example inject -- /bin/sh -c 'echo hello > /tmp/hello.txt && echo written'
//! ```
//!
//! Every write of the program to a file, a socket or its output fails with "no space left on
//! device". The engine takes the best mechanism that this kernel offers and says which.

use std::{
    ffi::{CString, OsString},
    os::unix::ffi::OsStrExt as _,
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use faultbox::engine::{
    Action, Driver, Engine, Errno, Exit, Launch, Options, Record, RecordSink, Rule, RuleId, Site,
    expand_keyword,
};

/// Prints each call that is denied.
struct Printer;

impl RecordSink for Printer {
    fn record(&self, record: Record) {
        if record.rule.is_some() {
            eprintln!("{}: {:?} on {:?}", record.syscall, record.decision, record.object);
        }
    }
}

fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let Some(program) = arguments.first() else {
        return Err("usage: inject PROGRAM [ARGUMENT…]".into());
    };

    let engine = Engine::start(&Options::default())?;
    eprintln!("engine: {}", engine.summary());

    // A target is a cgroup: all processes in it, now and later. This one goes with the program.
    let cgroup = OwnCgroup::new();
    let path = cgroup.as_ref().map(|cgroup| cgroup.0.as_path());
    let target = engine.target("subject", path, Driver::default(), Arc::new(Printer))?;

    let rule = Rule::new(
        RuleId(1),
        Site::of(target.id()),
        expand_keyword("write").ok_or("no such system call")?,
        Action::Deny(Errno::from_name("ENOSPC").ok_or("no such errno")?),
    );
    let injection = engine.inject(&[rule])?;

    let mut process = target.spawn(&Launch {
        program: PathBuf::from(program),
        arguments: arguments.iter().map(c_string).collect::<Result<_, _>>()?,
        environment: std::env::vars_os()
            .map(|(mut name, value)| {
                name.push("=");
                name.push(value);
                c_string(&name)
            })
            .collect::<Result<_, _>>()?,
        mounts: None,
        output: None,
    })?;
    let exit = loop {
        if let Some(exit) = process.wait(Duration::from_secs(3600)) {
            break exit;
        }
    };
    for (_, counts) in injection.lift() {
        eprintln!("{} calls matched, {} were denied", counts.matched, counts.fired);
    }
    Ok(match exit {
        Exit::Code(code) => ExitCode::from(u8::try_from(code).unwrap_or(1)),
        Exit::Signal(signal) => ExitCode::from(u8::try_from(128 + signal).unwrap_or(1)),
    })
}

fn c_string(text: &OsString) -> Result<CString, std::ffi::NulError> {
    CString::new(text.as_bytes())
}

/// A cgroup for this run, removed at its end; `None` where cgroup v2 is not to be had, and then
/// only the supervisor can break calls.
struct OwnCgroup(PathBuf);

impl OwnCgroup {
    fn new() -> Option<Self> {
        let roots = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(PathBuf::from);
        let root = roots.into_iter().find(|root| root.join("cgroup.procs").exists())?;
        let path = root.join(format!("inject-example-{}", std::process::id()));
        std::fs::create_dir(&path).ok().map(|()| Self(path))
    }
}

impl Drop for OwnCgroup {
    fn drop(&mut self) {
        // Children that the program left behind keep the cgroup, as they keep running.
        let _ = std::fs::remove_dir(&self.0);
    }
}
