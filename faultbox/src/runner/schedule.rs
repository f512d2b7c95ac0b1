//! All runs of a session: which comes when, what becomes of each, and what is printed of it.

use std::{
    collections::BTreeSet,
    io, iter,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use super::{
    interrupt,
    journal::Journal,
    message::Turns,
    pool,
    results::Results,
    suite::{Order, Suite},
    test_run::{Setting, TestRun},
};
use crate::{
    report::{FinishedRun, Keep, MatrixReport, Repetitions, Style},
    spec::{TestDeclaration, TestKind},
};

/// Which run is the first, the second, and so on.
pub(super) struct Schedule<'a> {
    tests: Vec<(&'a Suite, &'a TestDeclaration)>,
    /// Of each test.
    runs: usize,
    /// `--until-fail`: each test once, then each with the next seed, until one fails.
    until_fail: bool,
}

impl<'a> Schedule<'a> {
    /// Of all tests chosen.
    pub(super) fn new(order: &Order, suites: &'a [Suite]) -> Self {
        let tests = suites.iter().flat_map(|it| it.tests.iter().map(move |test| (it, test)));
        let runs = order.selection.runs as usize;
        Self { tests: tests.collect(), runs, until_fail: order.selection.until_fail }
    }

    /// How many runs there are; `None`: as many as it takes.
    pub(super) fn total(&self) -> Option<usize> {
        (!self.until_fail || self.runs < u32::MAX as usize).then(|| self.count())
    }

    fn count(&self) -> usize {
        self.tests.len() * self.runs
    }

    /// The test of the run with this number, and which of its runs it is, all from 0.
    fn at(&self, number: usize) -> (usize, usize) {
        if self.until_fail {
            (number % self.tests.len(), number / self.tests.len())
        } else {
            (number / self.runs, number % self.runs)
        }
    }
}

/// Runs everything, side by side as far as `setting` says, and prints it in order.
pub(super) fn run_all(
    order: &Order,
    setting: Setting<'_>,
    schedule: &Schedule<'_>,
    journal: Option<&Journal>,
    results: &mut Results<'_>,
) -> io::Result<()> {
    let turns = Turns::default();
    let keep = Keep {
        // Another terminal, or none, may get to see what the journal keeps.
        style: Style { color: order.style.color && journal.is_none(), ..order.style },
        repeated: order.selection.is_repeated(),
        document: results.document.is_some() || journal.is_some(),
    };
    let is_over = AtomicBool::new(false);
    let failed = Mutex::new(BTreeSet::new());
    // Whether enough of those before it have failed, so that it would not count.
    let is_needless = |number: usize| {
        order.max_fail.is_some_and(|most| {
            let failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
            failed.range(..number).take(most).count() == most
        })
    };
    let begun = AtomicUsize::new(0);
    // `None`: it was not begun, or interrupted.
    let work = |number: usize| {
        let (test, run) = schedule.at(number);
        let (suite, test) = schedule.tests[test];
        let seed = order.selection.seed_of(run);
        let known = journal.and_then(|it| it.take(suite.file.path(), &test.name, seed));
        let note = |run: &FinishedRun| {
            if !run.has_passed() {
                failed.lock().unwrap_or_else(PoisonError::into_inner).insert(number);
            }
        };
        if let Some(known) = known {
            note(&known);
            return Some(known);
        }
        if is_over.load(Ordering::Relaxed) || interrupt::requested() || is_needless(number) {
            return None;
        }
        begun.fetch_max(number + 1, Ordering::Relaxed);
        let (voice, position) = (turns.voice(number), number as u32 + 1);
        let run =
            TestRun { setting, file: &suite.file, test, seed, number: position, voice: &voice };
        let run = FinishedRun::of(&run.run(), keep)?;
        note(&run);
        if let Some(journal) = journal {
            journal.add(&run);
            if journal.failure().is_some() {
                is_over.store(true, Ordering::Relaxed);
            }
        }
        Some(run)
    };
    let mut printer = Printer::new(schedule, keep.repeated);
    pool::in_order(setting.jobs, schedule.count(), work, |ended| {
        // Asking for the next result is saying that the one before has been printed.
        let mut is_first = true;
        let ended = iter::from_fn(|| {
            if !std::mem::take(&mut is_first) {
                turns.next();
            }
            ended.next()
        });
        for (number, run) in ended.enumerate() {
            let Some(run) = run else {
                if number >= begun.load(Ordering::Relaxed) {
                    break;
                }
                continue;
            };
            results.add(&run);
            printer.add(schedule.at(number), run, results)?;
            // What was under way besides the last failure that is wanted does not count.
            if order.max_fail.is_some_and(|most| results.tally.failed >= most) {
                is_over.store(true, Ordering::Relaxed);
                break;
            }
        }
        printer.finish(results)
    })
}

/// Prints the block of each test as soon as all of its runs have ended, in the order of the tests.
struct Printer<'a> {
    schedule: &'a Schedule<'a>,
    repeated: bool,
    /// Of the tests that have not been printed.
    waiting: Vec<Repetitions>,
    printed: usize,
    /// Of the file whose tests are being printed.
    matrices: Vec<MatrixReport>,
}

impl<'a> Printer<'a> {
    fn new(schedule: &'a Schedule<'a>, repeated: bool) -> Self {
        let waiting = schedule.tests.iter().map(|_| Repetitions::default()).collect();
        Self { schedule, repeated, waiting, printed: 0, matrices: Vec::new() }
    }

    fn add(
        &mut self,
        (test, run): (usize, usize),
        finished: FinishedRun,
        results: &mut Results<'_>,
    ) -> io::Result<()> {
        self.waiting[test].add(finished);
        if run + 1 < self.schedule.runs {
            return Ok(());
        }
        self.up_to(test + 1, results)
    }

    /// Prints all that is left.
    fn finish(mut self, results: &mut Results<'_>) -> io::Result<()> {
        self.up_to(self.schedule.tests.len(), results)
    }

    fn up_to(&mut self, end: usize, results: &mut Results<'_>) -> io::Result<()> {
        while self.printed < end {
            let (suite, test) = self.schedule.tests[self.printed];
            let all = std::mem::take(&mut self.waiting[self.printed]);
            self.printed += 1;
            match all.shown() {
                Some(only) if !self.repeated => results.terminal.test(only)?,
                _ => results.terminal.runs(&all)?,
            }
            let is_first = std::ptr::eq(test, &raw const suite.tests[0]);
            if is_first {
                let new = |it: &_| MatrixReport::new(Clone::clone(it), self.repeated);
                self.matrices = suite.matrices.iter().map(new).collect();
            }
            if let TestKind::Cell { matrix, scenario, fault } = test.kind
                && let Some(matrix) = self.matrices.get_mut(matrix)
            {
                matrix.add(scenario, fault, &all);
            }
            let is_last = suite.tests.last().is_some_and(|it| std::ptr::eq(it, test));
            if is_last {
                self.matrices.iter().try_for_each(|it| results.matrix(it))?;
            }
        }
        Ok(())
    }
}
