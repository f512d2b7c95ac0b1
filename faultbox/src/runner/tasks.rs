//! Several functions of a test at once, on the test's one thread.
//!
//! Values of a spec cannot leave the thread of their evaluation. So each function runs as a
//! coroutine with a stack of its own, and where one would wait, others go on. What it waits for
//! is done meanwhile by a thread that knows nothing of the spec.

use std::{
    cell::Cell,
    collections::VecDeque,
    io,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    ptr::NonNull,
    sync::mpsc::{self, Sender},
    thread,
    time::{Duration, Instant},
};

use corosensei::{Coroutine, CoroutineResult, Yielder, stack::DefaultStack};

/// What the evaluator needs for its deepest calls, twice. Pages that are not touched cost nothing.
const STACK: usize = 32 << 20;

/// What a coroutine waits for.
enum Wait {
    /// To be woken by its worker.
    Worker,
    /// A point in time.
    Until(Instant),
}

type Line = Yielder<(), Wait>;

/// Runs jobs whose waits overlap.
#[derive(Default)]
pub(crate) struct Tasks {
    /// The coroutine that is running.
    current: Cell<Option<Current>>,
    /// Whether there ever was one.
    used: Cell<bool>,
}

#[derive(Clone, Copy)]
struct Current {
    number: usize,
    line: NonNull<Line>,
    /// Takes the numbers of those whose worker is done.
    done: NonNull<Sender<usize>>,
}

/// Says that nothing is running when a job ends, also by a panic: what is dropped then must not
/// suspend a coroutine that is not its own.
struct Running<'a>(&'a Cell<Option<Current>>);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.set(None);
    }
}

impl Tasks {
    /// Whether jobs have been run here.
    pub(crate) fn were_used(&self) -> bool {
        self.used.get()
    }

    /// Whether a job is running.
    pub(crate) fn are_running(&self) -> bool {
        self.current.get().is_some()
    }

    /// Runs every job to its end; the first goes first, until it waits.
    ///
    /// # Errors
    ///
    /// When there is no memory for their stacks; then none has begun. They must not be inside
    /// each other: see [`Tasks::are_running`].
    pub(crate) fn overlap(&self, jobs: Vec<Box<dyn FnOnce() + '_>>) -> io::Result<()> {
        let (done, woken) = mpsc::channel();
        let stacks: Vec<_> =
            jobs.iter().map(|_| DefaultStack::new(STACK)).collect::<io::Result<_>>()?;
        self.used.set(true);
        let done_at = NonNull::from(&done);
        let mut coroutines: Vec<_> = jobs
            .into_iter()
            .zip(stacks)
            .enumerate()
            .map(|(number, (job, stack))| {
                let run = move |line: &Line, ()| {
                    let line = NonNull::from(line);
                    self.current.set(Some(Current { number, line, done: done_at }));
                    let _running = Running(&self.current);
                    job();
                };
                // SAFETY: what the job borrows outlives this function, and the coroutine does
                // not: the vector is never forgotten, and dropping it unwinds whoever waits.
                unsafe { Coroutine::<(), Wait, (), _>::with_stack_unchecked(stack, run) }
            })
            .collect();
        let mut ready: VecDeque<usize> = (0..coroutines.len()).collect();
        let mut sleepers: Vec<(Instant, usize)> = Vec::new();
        let mut unfinished = coroutines.len();
        while unfinished > 0 {
            while let Some(number) = ready.pop_front() {
                match coroutines[number].resume(()) {
                    CoroutineResult::Yield(Wait::Worker) => {}
                    CoroutineResult::Yield(Wait::Until(time)) => sleepers.push((time, number)),
                    CoroutineResult::Return(()) => unfinished -= 1,
                }
            }
            let due = sleepers.iter().map(|(time, _)| *time).min();
            match due {
                Some(time) => {
                    ready.extend(woken.recv_timeout(time - Instant::now().min(time)));
                }
                // This end of the channel holds the other, so there will be an answer.
                None if unfinished > 0 => ready.extend(woken.recv()),
                None => {}
            }
            ready.extend(woken.try_iter());
            let now = Instant::now();
            let rested = sleepers.extract_if(.., |(time, _)| *time <= now);
            ready.extend(rested.map(|(_, number)| number));
        }
        Ok(())
    }

    /// Does something that may take time, and returns its result. In a job, others go on
    /// meanwhile: a thread does the work.
    ///
    /// # Errors
    ///
    /// When no thread can be started.
    pub(crate) fn wait_for<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        let Some(Current { number, done, .. }) = self.current.get() else {
            return Ok(work());
        };
        // SAFETY: the channel outlives the coroutines, and so the one that is running here.
        let done = unsafe { done.as_ref() }.clone();
        let result = thread::scope(|scope| {
            let worker = thread::Builder::new().name("step".to_owned());
            let worker = worker.spawn_scoped(scope, move || {
                let result = catch_unwind(AssertUnwindSafe(work));
                // Whoever waits for it is there until this thread has ended.
                let _ = done.send(number);
                result
            })?;
            self.suspend(Wait::Worker);
            io::Result::Ok(worker.join())
        })?;
        match result {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(panic)) | Err(panic) => resume_unwind(panic),
        }
    }

    /// Waits. In a job, others go on meanwhile.
    pub(crate) fn pause(&self, time: Duration) {
        match self.current.get() {
            Some(_) => self.suspend(Wait::Until(Instant::now() + time)),
            None => thread::sleep(time),
        }
    }

    /// Lets others go on.
    fn suspend(&self, wait: Wait) {
        let Some(current) = self.current.take() else { return };
        // SAFETY: it is that of the coroutine which runs here, on whose stack it lives.
        unsafe { current.line.as_ref() }.suspend(wait);
        // The others have changed it.
        self.current.set(Some(current));
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, sync::Barrier};

    use super::*;

    fn run(tasks: &Tasks, jobs: Vec<Box<dyn FnOnce() + '_>>) {
        tasks.overlap(jobs).unwrap();
        assert!(!tasks.are_running());
    }

    #[test]
    fn what_jobs_wait_for_goes_on_at_the_same_time() {
        let tasks = Tasks::default();
        // Nobody passes unless all are there.
        let meeting = Barrier::new(3);
        let met = Cell::new(0);
        let job = || {
            tasks.wait_for(|| meeting.wait()).unwrap();
            met.set(met.get() + 1);
        };
        run(&tasks, vec![Box::new(job), Box::new(job), Box::new(job)]);
        assert_eq!(met.get(), 3);
        assert!(tasks.were_used());
    }

    #[test]
    fn results_and_locals_are_each_jobs_own() {
        let tasks = Tasks::default();
        let results = RefCell::new(Vec::new());
        let job = |name: &'static str, naps: u64| {
            let (tasks, results) = (&tasks, &results);
            Box::new(move || {
                for nap in 1..=naps {
                    tasks.pause(Duration::from_millis(1));
                    let doubled = tasks.wait_for(move || nap * 2).unwrap();
                    assert_eq!(doubled, nap * 2);
                }
                results.borrow_mut().push((name, naps));
            }) as Box<dyn FnOnce()>
        };
        run(&tasks, vec![job("a", 20), job("b", 1), job("c", 0)]);
        let mut results = results.into_inner();
        assert_eq!(results[0], ("c", 0), "it waits for nothing");
        results.sort_unstable();
        assert_eq!(results, [("a", 20), ("b", 1), ("c", 0)]);
    }

    #[test]
    fn outside_of_jobs_waiting_is_plain() {
        let tasks = Tasks::default();
        assert_eq!(tasks.wait_for(|| 3).unwrap(), 3);
        tasks.pause(Duration::from_millis(1));
        assert!(!tasks.were_used());
    }

    #[test]
    fn a_panic_comes_out_and_takes_the_others_down() {
        struct Noted<'a>(&'a Cell<bool>);
        impl Drop for Noted<'_> {
            fn drop(&mut self) {
                self.0.set(true);
            }
        }
        let (tasks, dropped) = (Tasks::default(), Cell::new(false));
        let waits = || {
            let _noted = Noted(&dropped);
            tasks.pause(Duration::from_secs(3600));
        };
        let panics = || tasks.wait_for(|| panic!("over")).unwrap();
        let jobs: Vec<Box<dyn FnOnce()>> = vec![Box::new(waits), Box::new(panics)];
        let result = catch_unwind(AssertUnwindSafe(|| tasks.overlap(jobs)));
        assert_eq!(*result.unwrap_err().downcast::<&str>().unwrap(), "over");
        assert!(!tasks.are_running());
        assert!(dropped.get(), "what the other held is given up");
    }

    #[test]
    fn each_has_a_stack_that_is_deep_enough() {
        fn deep(left: u32) -> u64 {
            let page = std::hint::black_box([left as u8; 4096]);
            if left == 0 { 0 } else { u64::from(page[9]) + deep(left - 1) }
        }
        let tasks = Tasks::default();
        let sum = Cell::new(0);
        // 24 MiB and some.
        let job = || sum.set(sum.get() + deep(6000));
        run(&tasks, vec![Box::new(job), Box::new(job)]);
        assert!(sum.get() > 0);
    }
}
