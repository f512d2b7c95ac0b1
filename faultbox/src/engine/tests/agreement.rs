//! The kernel's decisions against `decide()`: random rules, random calls, one by one.
//!
//! A child inside the target's cgroup makes real calls and writes down what each one returned. The
//! same calls are then put to `decide()` on the host, with counters of its own, and every result
//! and in the end every count must be the same. `FAULTBOX_TEST_SEED` replays a run.

mod child;
mod globs;
mod model;
mod world;

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    num::NonZeroU64,
    time::Instant,
};

use super::{
    super::{Action, Choice, Engine, Errno, Injection, Probability, Rule, RuleId, Site},
    Kept, in_kernel, quiet_engine, shared_engine,
    subject::TestCgroup,
};
use child::{BATCH, Child};
use model::Model;
use world::{PORTS, World};

/// Calls that a run makes at least.
const CALLS: usize = 12_000;
/// Rounds with rules of their own; each has some batches of calls.
const ROUNDS: usize = 260;
const BATCHES: usize = 6;

/// `SplitMix64`: a run is replayed by its seed on every machine.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `end`.
    pub(super) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    pub(super) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

/// Of the run: from the environment, else a new one.
pub(super) fn seed() -> u64 {
    match std::env::var("FAULTBOX_TEST_SEED") {
        Ok(text) => text.parse().expect("FAULTBOX_TEST_SEED is a number"),
        Err(_) => std::time::UNIX_EPOCH.elapsed().map_or(1, |time| time.as_nanos() as u64),
    }
}

/// Errors of files, of sockets and of both.
/// Where rules with ports may want the peer to be: where some are, and where nobody is.
const HOSTS: &[IpAddr] = &[
    IpAddr::V4(Ipv4Addr::LOCALHOST),
    IpAddr::V6(Ipv6Addr::LOCALHOST),
    IpAddr::V4(world::DRIVER),
    IpAddr::V4(Ipv4Addr::new(172, 18, 0, 2)),
];
const ERRORS: &[&str] = &[
    "EIO",
    "ENOSPC",
    "EACCES",
    "EINTR",
    "EAGAIN",
    "ECONNRESET",
    "ECONNREFUSED",
    "EPIPE",
    "ETIMEDOUT",
];

fn random_rule(random: &mut Random, world: &World, id: u32) -> Rule {
    let mut syscalls = Vec::new();
    let calls = world.syscalls();
    while syscalls.is_empty() || random.one_in(3) {
        let syscall = *random.pick(calls);
        if !syscalls.contains(&syscall) {
            syscalls.push(syscall);
        }
    }
    let action = match random.below(if world.returns() { 10 } else { 7 }) {
        0 => Action::Allow,
        // More than any descriptor that the child has.
        7 | 8 => Action::Return(1000 + random.below(1000) as i64),
        // Has kprobes loaded, which kernel 6.1 takes minutes over (see `FAULTBOX_TEST_ZERO`).
        9 if std::env::var_os("FAULTBOX_TEST_ZERO").is_some() => Action::Return(0),
        _ => Action::Deny(Errno::from_name(random.pick::<&str>(ERRORS)).unwrap()),
    };
    let mut ports = Vec::new();
    if random.one_in(4) {
        while ports.is_empty() || random.one_in(2) && ports.len() < 8 {
            ports.push(world.port(random.below(PORTS)));
        }
    }
    let host = random.one_in(2).then(|| *random.pick(HOSTS));
    let mut rule = Rule {
        path: random.one_in(2).then(|| globs::random(random, world)),
        stream: random.next(),
        include_driver: random.one_in(3),
        ..Rule::new(RuleId(id), Site { target: world.target(), ports, host }, syscalls, action)
    };
    if random.one_in(3) {
        let fraction = random.below(101) as f64 / 100.0;
        rule.probability = Probability::from_fraction(fraction).unwrap();
    }
    if random.one_in(6) {
        rule.nth = NonZeroU64::new(1 + random.below(6) as u64);
    }
    if random.one_in(5) {
        rule.after = random.below(5) as u64;
    }
    if random.one_in(5) {
        rule.max_hits = NonZeroU64::new(1 + random.below(4) as u64);
    }
    rule
}

/// The rules, a line for each.
fn texts<'a>(rules: impl IntoIterator<Item = &'a Rule>) -> String {
    let text = |it: &Rule| {
        let path = it.path.as_ref().map_or("-", |path| path.as_str());
        let Rule { id, sites, syscalls, action, probability, nth, after, max_hits, .. } = it;
        format!(
            "{}: {syscalls:?} path {path} {action:?} {probability} nth {nth:?} after {after} \
             max_hits {max_hits:?} ports {:?} include_driver {}\n",
            id.0, sites[0], it.include_driver,
        )
    };
    rules.into_iter().map(text).collect()
}

/// What a run came to.
#[derive(Debug, Default)]
struct Tally {
    calls: usize,
    ended: usize,
    by_path: u64,
    injections: usize,
    refused: usize,
    unexamined: usize,
}

/// One round. An error says what the kernel did otherwise than `decide()`.
fn round(
    engine: &Engine,
    world: &mut World,
    child: &Child,
    random: &mut Random,
    (most, tally): (usize, &mut Tally),
) -> Result<(), String> {
    let mut model = Model::new(world.skips_early());
    let mut on: Vec<(Injection, Vec<Rule>)> = Vec::new();
    let mut id = 0;
    world.change(random);
    for _ in 0..BATCHES {
        for _ in 0..=random.below(2) {
            let rules: Vec<_> = (0..=random.below(most))
                .map(|_| {
                    id += 1;
                    random_rule(random, world, id)
                })
                .collect();
            match engine.inject(&rules) {
                Ok(injection) => {
                    model.add(&rules);
                    on.push((injection, rules));
                    tally.injections += 1;
                }
                // Nothing of it may be left: later calls would show it.
                Err(error) => {
                    let text = error.to_string();
                    let full = text.contains("more than 8 rules");
                    if full != model.is_full_for(&rules)
                        && !text.contains("characters")
                        && !text.contains("more than 8 in faults")
                        && !text.contains("a result of 0 means")
                    {
                        return Err(format!("{text}, for {}", texts(&rules)));
                    }
                    tally.refused += 1;
                }
            }
        }
        let calls: Vec<_> =
            (0..BATCH.min(8 + random.below(8))).map(|_| world.call(random)).collect();
        let results = child.make(&calls);
        world.drain();
        tally.calls += calls.len();
        for (call, got) in calls.iter().zip(results) {
            let seen = world.seen(call);
            let decision = model.decide(&seen);
            tally.ended += usize::from(decision.ended.is_some());
            tally.by_path += u64::from(decision.by_path);
            let is_right = match decision.ended {
                Some(value) => got == value,
                None => seen.natural.admits(got),
            };
            if !is_right {
                let rules: Vec<_> = on.iter().map(|(_, rules)| texts(rules)).collect();
                return Err(format!(
                    "{call:?} {:?} returned {got}; decide() says {decision:?} for {seen:?} under\n{}",
                    String::from_utf8_lossy(world.spelling(call.which % world.spellings())),
                    rules.concat(),
                ));
            }
        }
        while !on.is_empty() && random.one_in(3) {
            let (injection, rules) = on.remove(random.below(on.len()));
            model.lift(&rules, &injection.lift())?;
        }
    }
    while !on.is_empty() {
        let (injection, rules) = on.remove(random.below(on.len()));
        model.lift(&rules, &injection.lift())?;
    }
    Ok(())
}

#[test]
fn what_the_kernel_decides_is_what_decide_says() {
    if in_kernel() {
        agree(&shared_engine(), 5);
    }
}

/// Few rules, and nothing to record: most calls are decided the straight way.
#[test]
fn what_the_kernel_decides_without_records_is_what_decide_says() {
    if in_kernel() {
        agree(&quiet_engine(Choice::Ebpf).unwrap(), 2);
    }
}

#[test]
fn what_kprobes_decide_without_records_is_what_decide_says() {
    if !in_kernel() {
        return;
    }
    match quiet_engine(Choice::Kprobe) {
        Ok(engine) => agree(&engine, 2),
        Err(error) => {
            assert!(error.0.contains("--engine kprobe cannot be served"), "{error}");
            eprintln!("not run here: {error}");
        }
    }
}

/// Compares them over many rounds, in each of which up to `most` rules come at a time.
fn agree(engine: &Engine, most: usize) {
    let seed = seed();
    println!("FAULTBOX_TEST_SEED={seed}");
    let start = Instant::now();
    let cgroup = TestCgroup::new("agreement");
    let target =
        engine.target("subject", Some(cgroup.path()), World::driver(), Kept::new()).unwrap();
    let mut world = World::new(engine, target.id());
    let child = Child::start(cgroup.path(), &world);
    world.learn(&child);
    let mut random = Random::new(seed);
    let mut tally = Tally::default();
    for number in 0.. {
        if number >= ROUNDS && tally.calls >= CALLS {
            break;
        }
        let misses = engine.misses();
        let result = round(engine, &mut world, &child, &mut random, (most, &mut tally));
        if let Err(difference) = result {
            // A program that was preempted by another thread's is skipped, and the engine says so.
            assert!(engine.misses() > misses, "seed {seed}, round {number}: {difference}");
            tally.unexamined += 1;
        }
    }
    drop(child);
    println!("{tally:?} in {:?}, {}", start.elapsed(), engine.summary());
    assert!(tally.ended > tally.calls / 10, "too few calls were broken to mean much: {tally:?}");
    assert!(tally.by_path > 100 && tally.unexamined < ROUNDS / 20, "{tally:?}");
}
