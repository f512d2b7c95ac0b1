//! How late delays end, and how long they keep processors busy. Run alone for figures:
//! `cargo test -p faultbox --lib supervisor::tests::lateness -- --nocapture --test-threads 1`.

use super::{
    delays::{ms, reported, set},
    *,
};

const WRITE: &[&str] = &["write"];

/// What many writes that were delayed at once came to.
struct Figures {
    /// Lateness of each, ascending.
    late: Vec<Duration>,
    /// Lateness of as many sleeps of the same length, just before: what the machine does anyway.
    slept: Vec<Duration>,
    /// Processor time of the target and of the supervisor.
    busy: [Duration; 2],
}

/// What 99 % of them keep to.
fn most(ascending: &[Duration]) -> Duration {
    ascending[((ascending.len() - 1) as f64 * 0.99).round() as usize]
}

impl Figures {
    /// How much later than a sleep a delay ends.
    fn later(&self) -> Duration {
        most(&self.late).saturating_sub(most(&self.slept))
    }

    fn busy(&self) -> Duration {
        self.busy.iter().sum()
    }
}

fn measure(threads: usize, delay: Duration) -> Figures {
    let (stage, _folder, file, report) = set();
    stage.delay(WRITE, delay);
    let arguments = [&*file, &*report, &threads.to_string(), &delay.as_nanos().to_string()];
    let mut process = stage.start(&in_role("write-at-once", &arguments), WRITE);
    let before = stage.supervisor.busy();
    assert_eq!(process.wait(LONG), Some(Exit::Code(0)));
    let ours = stage.supervisor.busy().saturating_sub(before);
    let numbers: Vec<_> = reported(&report).into_iter().map(Duration::from_nanos).collect();
    let late = |took: &[Duration]| {
        let late = took.iter().map(|took| took.checked_sub(delay).expect("not early"));
        let mut late: Vec<_> = late.collect();
        late.sort();
        assert_eq!(late.len(), threads);
        late
    };
    let (slept, took) = numbers[1..].split_at(threads);
    let figures = Figures { late: late(took), slept: late(slept), busy: [numbers[0], ours] };
    let part = figures.busy().as_secs_f64() / delay.as_secs_f64() * 100.0;
    let (late, [there, here]) = (&figures.late, figures.busy);
    eprintln!(
        "{threads} threads, {delay:?}: late by {:.0?} (p50), {:.0?} (p99), {:.0?} (most), sleeps by \
         {:.0?} (p99); busy {there:.0?} there and {here:.0?} here, {part:.2} % of the delay",
        late[threads / 2],
        most(late),
        late[threads - 1],
        most(&figures.slept)
    );
    figures
}

#[test]
fn a_delay_ends_in_time_and_burns_nothing() {
    // Of several, the best: the others tell of the machine's other work.
    let best = |threads, delay, of: fn(&Figures) -> Duration| {
        (0..5).map(|_| of(&measure(threads, delay))).min().unwrap()
    };
    for delay in [ms(10), ms(100)] {
        assert!(best(1, delay, Figures::later) < ms(1), "one thread, {delay:?}");
    }
    // Alone on a quiet machine it is 2 ms (and less than 1 ms where they wait for a second).
    assert!(best(100, ms(500), Figures::later) < ms(5), "a hundred threads");
    let delay = ms(1000);
    assert!(best(1, delay, Figures::busy) < delay / 50, "one thread");
    assert!(best(100, delay, Figures::busy) < delay / 50, "a hundred threads");
}
