//! What builtins and values know beyond their arguments: the running test and the declarations
//! so far. Travels in the evaluator's `extra`.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use starlark::{any::ProvidesStaticType, eval::Evaluator};

use super::{Host, Location, Service, TestFailure, failure::Raised, file};

/// How long after the deadline monitors may look at what happened before it.
const GRACE: Duration = Duration::from_millis(500);

/// One evaluation of a file.
#[derive(ProvidesStaticType)]
pub(super) struct Context<'e> {
    host: &'e dyn Host,
    services: RefCell<Vec<Service>>,
    running: Cell<bool>,
    /// The loaded files that are being evaluated, each with the tests that it declares.
    loading: RefCell<Vec<BTreeSet<String>>>,
    /// Whether a monitor or a condition is looking at an event.
    looking: Cell<bool>,
    /// Until when the deadline does not count.
    grace: Cell<Option<Instant>>,
    /// Whether the test was to hang, and did.
    hung: Cell<bool>,
    /// What the first monitor that objected to something said.
    violation: RefCell<Option<TestFailure>>,
    /// Why one of several functions at the same time has failed.
    failure: RefCell<Option<TestFailure>>,
    misses: Arc<Misses>,
}

impl<'e> Context<'e> {
    pub(super) fn new(host: &'e dyn Host) -> Self {
        Self {
            host,
            services: RefCell::default(),
            running: Cell::new(false),
            loading: RefCell::default(),
            looking: Cell::new(false),
            grace: Cell::new(None),
            hung: Cell::new(false),
            violation: RefCell::default(),
            failure: RefCell::default(),
            misses: Arc::default(),
        }
    }

    /// That of the evaluation which called the builtin.
    pub(super) fn of<'a>(eval: &Evaluator<'_, 'a, 'e>) -> Result<&'a Self, Raised> {
        let extra = eval.extra.and_then(|extra| extra.downcast_ref::<Self>());
        extra.ok_or_else(|| Raised::error("evaluated without a context (a bug in faultbox)"))
    }

    /// The running test; an error naming the builtin when none is.
    pub(super) fn test(&self, who: &str) -> Result<&'e dyn Host, Raised> {
        let host = self.onlooker(who)?;
        if self.looking.get() {
            return Err(Raised::error(format!(
                "{who}: a function that looks at events cannot do anything to the test"
            )));
        }
        Ok(host)
    }

    /// The same for a builtin that changes nothing, which monitors may call as well.
    pub(super) fn onlooker(&self, who: &str) -> Result<&'e dyn Host, Raised> {
        if !self.running.get() {
            return Err(Raised::error(format!("{who}: only valid while a test is running")));
        }
        if self.is_cancelled() {
            return Err(Raised::cancelled());
        }
        self.check_violation()?;
        Ok(self.host)
    }

    /// Whether a function that looks at events is running.
    pub(super) fn is_looking(&self) -> bool {
        self.looking.get()
    }

    /// Calls something that looks at events.
    pub(super) fn look<R>(&self, look: impl FnOnce() -> R) -> R {
        let before = self.looking.replace(true);
        let result = look();
        self.looking.set(before);
        result
    }

    /// Does something that may go on for a moment after the deadline, unless something else ends
    /// the test.
    pub(super) fn with_grace<R>(&self, work: impl FnOnce() -> R) -> R {
        let until = Instant::now() + self.host.time_left() + GRACE;
        let before = self.grace.replace(Some(until));
        let result = work();
        self.grace.set(before);
        result
    }

    /// An error when a monitor has objected.
    pub(super) fn check_violation(&self) -> Result<(), Raised> {
        match self.violation() {
            Some(TestFailure { kind, reason, .. }) => Err(Raised::new(kind, reason)),
            None => Ok(()),
        }
    }

    /// Notes that the test was to hang, and did.
    pub(super) fn note_hang(&self) {
        self.hung.set(true);
    }

    /// An error when the test's time is over, unless it was to hang.
    pub(super) fn check_time(&self) -> Result<(), Raised> {
        if self.host.has_timed_out() && !self.hung.get() {
            return Err(Raised::cancelled());
        }
        Ok(())
    }

    /// What the first monitor that objected to something said.
    pub(super) fn violation(&self) -> Option<TestFailure> {
        self.violation.borrow().clone()
    }

    /// Notes that a monitor has objected, unless one has before.
    pub(super) fn note_violation(&self, violation: TestFailure) {
        self.violation.borrow_mut().get_or_insert(violation);
    }

    /// Why one of several functions at the same time has failed.
    pub(super) fn failure(&self) -> Option<TestFailure> {
        self.failure.borrow().clone()
    }

    /// Notes why the test fails, so that the end of its time cannot take the place of that: the
    /// evaluator makes every error one of its time once that is over.
    pub(super) fn note_failure(&self, failure: TestFailure) {
        self.failure.borrow_mut().get_or_insert(failure);
    }

    /// Takes a line of output.
    pub(super) fn print(&self, line: &str) {
        self.host.print(line);
    }

    /// Whether the test is to end now.
    pub(super) fn is_cancelled(&self) -> bool {
        let is_graced = || self.grace.get().is_some_and(|until| Instant::now() < until);
        self.host.is_cancelled() && !(is_graced() && self.host.has_timed_out())
    }

    pub(super) fn is_running(&self) -> bool {
        self.running.get()
    }

    /// Whether a test is running from now on.
    pub(super) fn set_running(&self, running: bool) {
        self.running.set(running);
    }

    /// Adds a service; an error when its name is taken.
    pub(super) fn declare(&self, service: &Service) -> Result<(), Raised> {
        let mut services = self.services.borrow_mut();
        if let Some(first) = services.iter().find(|it| it.name == service.name) {
            let line = |at: &Location| format!("{}:{}", at.file, at.line);
            return Err(Raised::error(format!(
                "service {:?} declared twice ({}, {})",
                service.name,
                line(&first.location),
                line(&service.location)
            )));
        }
        services.push(service.clone());
        Ok(())
    }

    /// What has been declared so far.
    pub(super) fn services(&self) -> Vec<Service> {
        self.services.borrow().clone()
    }

    /// A loaded file is evaluated from now on; these of its functions look like tests.
    pub(super) fn begin_loaded_file(&self, tests: &BTreeSet<String>) {
        self.loading.borrow_mut().push(tests.clone());
    }

    /// A loaded file has been evaluated. Returns how many tests it declares, none of which runs.
    pub(super) fn end_loaded_file(&self) -> usize {
        self.loading.borrow_mut().pop().map_or(0, |tests| tests.len())
    }

    /// Whether what is declared now becomes a test of this name: only the spec itself declares
    /// tests, and those of loaded files are counted (language.md, D14).
    pub(super) fn declares_test(&self, name: &str) -> bool {
        match self.loading.borrow_mut().last_mut() {
            Some(tests) => {
                tests.insert(name.to_owned());
                false
            }
            None => true,
        }
    }

    pub(super) fn misses(&self) -> &Arc<Misses> {
        &self.misses
    }
}

/// Where in the spec the builtin was called.
pub(super) fn caller(eval: &Evaluator<'_, '_, '_>) -> Option<Location> {
    eval.call_stack_top_location().as_ref().map(file::location)
}

/// An attribute that a value did not have, and what to say about it. The evaluator's own error
/// knows only the type; the value knows what it offers.
#[derive(Debug)]
pub(super) struct Missed {
    pub(super) attribute: String,
    pub(super) text: String,
}

/// The last miss of any value.
#[derive(Debug, Default)]
pub(super) struct Misses(Mutex<Option<Missed>>);

impl Misses {
    pub(super) fn note(&self, attribute: &str, text: String) {
        let missed = Missed { attribute: attribute.to_owned(), text };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(missed);
    }

    pub(super) fn take(&self) -> Option<Missed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
