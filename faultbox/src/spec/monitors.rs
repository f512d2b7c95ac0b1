//! Which monitors are active, and giving them their events (language.md 1.13).
//!
//! Events are looked at where the test waits for them anyway: before a step returns, before an
//! assertion, where a window ends, and at the end of the test. So everything here happens on the
//! test's own thread.

use std::{
    cell::{Cell, RefCell},
    fmt,
    sync::Arc,
};

use allocative::Allocative;
use starlark::{
    environment::Module,
    eval::Evaluator,
    values::{
        NoSerialize, ProvidesStaticType, StarlarkValue, Trace, Value, ValueLike, starlark_value,
    },
};

use super::{
    FailureKind, Host, TestFailure,
    context::Context,
    failure::Raised,
    query::warn_if_unrecorded,
    values::{EventValue, MonitorValue, never_frozen},
};
use crate::trace::{Log, Watch, now};

mod verdict;

use verdict::{note, show};

/// The variable of the module that holds the table; no spec can name it.
const TABLE: &str = "$monitors";

/// Matching events that are looked up at a time.
const BATCH: usize = 1024;

/// A window of monitors; it is open until it is given to [`deactivate`] or the test ends.
#[must_use]
pub(super) struct Activation(u32);

/// All monitors of one evaluation.
#[derive(Debug, Default, ProvidesStaticType, NoSerialize, Allocative, Trace)]
struct Table<'v> {
    /// Those that were made outside of tests.
    declared: RefCell<Vec<Value<'v>>>,
    active: RefCell<Vec<Active<'v>>>,
    /// Index of the first event that nobody has looked at.
    #[allocative(skip)]
    next: Cell<usize>,
    /// The window opened last.
    #[allocative(skip)]
    last: Cell<u32>,
    /// Records that were lost before the first window.
    #[allocative(skip)]
    lost: Cell<u64>,
}

#[derive(Debug, Allocative, Trace)]
struct Active<'v> {
    monitor: Value<'v>,
    /// Its windows.
    windows: Vec<u32>,
    /// Only later events are for it, by the log's clock.
    since: u64,
}

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("monitors")
    }
}

#[starlark_value(type = "monitors", ty_vtable_no_freeze)]
impl<'v> StarlarkValue<'v> for Table<'v> {}
never_frozen!(Table<'v>);

/// Makes room for a module's monitors. Must come before the module is evaluated.
pub(super) fn prepare(module: &Module<'_>) {
    module.set(TABLE, module.heap().alloc(Table::default()));
}

/// Checks that each value is a monitor, and notes that it is attached to something.
pub(super) fn check_monitors(who: &str, values: &[Value<'_>]) -> Result<(), Raised> {
    for value in values {
        let Some(monitor) = value.downcast_ref::<MonitorValue>() else {
            let text =
                format!("{who}: monitors= must be a list of monitors, got {}", value.get_type());
            return Err(Raised::error(text));
        };
        monitor.is_attached.set(true);
    }
    Ok(())
}

/// Takes a new monitor: in a running test it is active from now on, elsewhere when something that
/// it is attached to is used.
pub(super) fn register<'v>(
    eval: &mut Evaluator<'v, '_, '_>,
    monitor: Value<'v>,
) -> starlark::Result<()> {
    if Context::of(eval)?.is_running() {
        // Its window ends with the test.
        let _ = activate(eval, &[monitor])?;
    } else {
        table(eval)?.declared.borrow_mut().push(monitor);
    }
    Ok(())
}

/// What to say about monitors that nothing will ever activate.
pub(super) fn idle_warnings(eval: &Evaluator<'_, '_, '_>) -> Vec<String> {
    let Ok(table) = table(eval) else { return Vec::new() };
    let declared = table.declared.borrow();
    let declared = declared.iter().filter_map(|it| it.downcast_ref::<MonitorValue>());
    let idle = declared.filter(|it| it.name.is_none() && !it.is_attached.get());
    idle.map(|monitor| {
        let place = monitor.location.as_ref().map(|it| format!("{it}: ")).unwrap_or_default();
        format!(
            "warning: {place}this monitor is attached to nothing and stays inactive; list it in \
             monitors= of a fault_assumption, fault_scenario or fault_matrix, call monitor() \
             inside a test, or give it a name"
        )
    })
    .collect()
}

/// Activates what is for every test of the file: monitors that have a name and are attached to
/// nothing.
pub(super) fn begin_test(eval: &mut Evaluator<'_, '_, '_>) -> starlark::Result<()> {
    let for_all: Vec<_> = {
        let declared = table(eval)?.declared.borrow();
        let is_for_all = |it: &&Value<'_>| {
            it.downcast_ref::<MonitorValue>()
                .is_some_and(|it| it.name.is_some() && !it.is_attached.get())
        };
        declared.iter().filter(is_for_all).copied().collect()
    };
    if !for_all.is_empty() {
        let _ = activate(eval, &for_all)?;
    }
    Ok(())
}

/// Gives the monitors what is left for them, and closes all windows. The result is the test's,
/// unless a monitor objects: what it objects to came before the test's end.
pub(super) fn end_test<'v>(
    eval: &mut Evaluator<'v, '_, '_>,
    result: starlark::Result<Value<'v>>,
) -> starlark::Result<Value<'v>> {
    let context = Context::of(eval)?;
    let is_stopped = context.with_grace(|| context.is_cancelled());
    let delivered = if is_stopped { Ok(()) } else { deliver(eval) };
    table(eval)?.close(context, |_| true);
    delivered?;
    context.check_violation()?;
    result
}

/// Opens a window: from now on the monitors see every event that they are for. One that is active
/// already sees each event once all the same, as long as any of its windows is open.
///
/// # Errors
///
/// When a monitor that was active before objects to something, when a monitor is for a service
/// that there is not, or when nothing is recorded.
pub(super) fn activate<'v>(
    eval: &mut Evaluator<'v, '_, '_>,
    monitors: &[Value<'v>],
) -> starlark::Result<Activation> {
    let context = Context::of(eval)?;
    let table = table(eval)?;
    for monitor in monitors.iter().filter_map(|it| it.downcast_ref::<MonitorValue>()) {
        let host = context.onlooker(&monitor.who())?;
        monitor.filters.check_services(&monitor.who(), &context.services())?;
        if table.active.borrow().is_empty() {
            let log = host.settled().map_err(Raised::from)?;
            table.next.set(log.count());
            table.lost.set(host.lost());
        }
    }
    deliver(eval)?;
    let window = table.last.get() + 1;
    table.last.set(window);
    let since = now();
    for monitor in monitors {
        let mut active = table.active.borrow_mut();
        match active.iter_mut().find(|it| it.monitor.ptr_eq(*monitor)) {
            Some(it) => it.windows.push(window),
            None => active.push(Active { monitor: *monitor, windows: vec![window], since }),
        }
    }
    table.watch(context);
    Ok(Activation(window))
}

/// Closes a window, after its monitors have seen everything that happened before.
///
/// # Errors
///
/// When a monitor objects, or has objected before.
#[allow(clippy::needless_pass_by_value, reason = "a window is closed once")]
pub(super) fn deactivate(
    eval: &mut Evaluator<'_, '_, '_>,
    activation: Activation,
) -> starlark::Result<()> {
    let delivered = deliver(eval);
    table(eval)?.close(Context::of(eval)?, |window| window == activation.0);
    delivered
}

/// Gives the active monitors every event so far that they have not seen, also when the test's time
/// is over.
///
/// # Errors
///
/// When a monitor objects or has objected before, or when records were lost that one might have
/// objected to.
pub(super) fn deliver(eval: &mut Evaluator<'_, '_, '_>) -> starlark::Result<()> {
    let context = Context::of(eval)?;
    let table = table(eval)?;
    if table.active.borrow().is_empty() || context.is_looking() {
        return Ok(());
    }
    context.with_grace(|| show_all(eval, context, table))
}

fn show_all<'v>(
    eval: &mut Evaluator<'v, '_, '_>,
    context: &Context<'_>,
    table: &Table<'v>,
) -> starlark::Result<()> {
    let host = context.onlooker("monitor()")?;
    let log = host.settled().map_err(Raised::from)?;
    loop {
        let (matches, is_end) = table.scan(&log);
        for (index, monitor) in matches {
            let event = eval.heap().alloc(EventValue::new(&log, index, None));
            if let Some(monitor) = monitor.downcast_ref::<MonitorValue>() {
                show(eval, context, &log, monitor, event, index)?;
            }
        }
        if is_end {
            break;
        }
    }
    let lost = host.lost() - table.lost.get();
    if lost > 0 {
        let text = format!(
            "{lost} trace records were dropped while a monitor was active, so that it may have \
             missed what it is for"
        );
        let failure = TestFailure { reason: text, kind: FailureKind::Monitor, location: None };
        return Err(note(context, failure));
    }
    Ok(())
}

impl<'v> Table<'v> {
    /// The next events that active monitors are for, and whether these were the last.
    fn scan(&self, log: &Log) -> (Vec<(usize, Value<'v>)>, bool) {
        let active = self.active.borrow();
        log.read(|events| {
            let mut matches = Vec::new();
            let mut next = self.next.get();
            while let Some(event) = events.get(next)
                && matches.len() < BATCH
            {
                for Active { monitor, since, .. } in &*active {
                    let is_meant = |it: &MonitorValue<'_>| it.filters.matches(event);
                    if event.time > *since
                        && monitor.downcast_ref::<MonitorValue>().is_some_and(is_meant)
                    {
                        matches.push((next, *monitor));
                    }
                }
                next += 1;
            }
            self.next.set(next);
            (matches, next >= events.len())
        })
    }

    /// Closes windows.
    fn close(&self, context: &Context<'_>, is_meant: impl Fn(u32) -> bool) {
        let closed: Vec<_> = {
            let mut active = self.active.borrow_mut();
            active.iter_mut().for_each(|it| it.windows.retain(|window| !is_meant(*window)));
            active.extract_if(.., |it| it.windows.is_empty()).collect()
        };
        let monitors = closed.iter().filter_map(|it| it.monitor.downcast_ref::<MonitorValue>());
        if let Some((host, log)) = Self::sight(context) {
            for monitor in monitors {
                warn_if_unrecorded(&monitor.who(), &monitor.filters, host, &log);
            }
            self.watch(context);
        }
    }

    /// The log, unless a violation or the end of the run leaves nothing to be looked at.
    fn sight<'e>(context: &Context<'e>) -> Option<(&'e dyn Host, Arc<Log>)> {
        let host = context.with_grace(|| context.onlooker("monitor()")).ok()?;
        Some((host, host.settled().ok()?))
    }

    /// Tells the log what must not get lost.
    fn watch(&self, context: &Context<'_>) {
        let Some((_, log)) = Self::sight(context) else { return };
        let active = self.active.borrow();
        let filters: Vec<_> = active
            .iter()
            .filter_map(|it| it.monitor.downcast_ref::<MonitorValue>())
            .map(|it| &it.filters)
            .collect();
        let tests: Vec<_> = filters
            .iter()
            .map(|it| (|name: &str| it.admits_service(name), |name: &str| it.admits_syscall(name)))
            .collect();
        let watches: Vec<_> =
            tests.iter().map(|(service, syscall)| Watch { service, syscall }).collect();
        log.watch(&watches);
    }
}

fn table<'v>(eval: &Evaluator<'v, '_, '_>) -> Result<&'v Table<'v>, Raised> {
    let table = eval.module().get(TABLE);
    let table = table.and_then(ValueLike::downcast_ref::<Table<'v>>);
    table.ok_or_else(|| Raised::error("evaluated without its monitors (a bug in faultbox)"))
}

#[cfg(test)]
mod tests;
