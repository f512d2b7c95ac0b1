//! Windows of monitors, as the builtins open and close them that have `monitors=`.

use starlark::{environment::Module, eval::Evaluator, values::Value};

use super::*;
use crate::spec::{
    SpecFile, builtins,
    loaded::{Printer, evaluator},
    tests::{Recorder, on_thread},
};
use crate::trace::EventKind;

/// Evaluates a source whose functions can then be called as in a running test, with the module's
/// values by name.
fn in_test<R: Send>(
    source: &str,
    work: impl FnOnce(&mut Evaluator<'_, '_, '_>, &Recorder) -> R + Send,
) -> R {
    let source = source.to_owned();
    on_thread(move || {
        let file = SpecFile::new("a.star".to_owned(), source.into_bytes()).unwrap();
        let host = Recorder::default();
        Module::with_temp_heap(|module| {
            prepare(&module);
            let context = Context::new(&host);
            let printer = Printer(&host);
            let mut eval = evaluator(&module, &context, &printer).map_err(|it| it.to_string());
            let eval = eval.as_mut().unwrap();
            eval.eval_module(file.parse().unwrap(), builtins::globals()).unwrap();
            context.set_running(true);
            work(eval, &host)
        })
    })
}

fn value<'v>(eval: &Evaluator<'v, '_, '_>, name: &str) -> Value<'v> {
    eval.module().get(name).unwrap()
}

/// Something happens.
fn happen(host: &Recorder) {
    host.log.push("db", EventKind::ServiceReady);
}

const SOURCE: &str = "seen = []\nm = monitor(lambda e: seen.append(e.seq))\n\
                      n = monitor(lambda e: fail(\"no\"), type = \"service_ready\")\n";

fn seen(eval: &Evaluator<'_, '_, '_>) -> String {
    value(eval, "seen").to_repr()
}

#[test]
fn only_what_happens_in_the_window_is_seen() {
    in_test(SOURCE, |eval, host| {
        let m = value(eval, "m");
        check_monitors("x()", &[m]).unwrap();
        happen(host);
        let window = activate(eval, &[m]).unwrap();
        happen(host);
        happen(host);
        deactivate(eval, window).unwrap();
        assert_eq!(seen(eval), "[2, 3]", "the window's last events are delivered at its end");
        happen(host);
        let window = activate(eval, &[m]).unwrap();
        deactivate(eval, window).unwrap();
        assert_eq!(seen(eval), "[2, 3]");
    });
}

#[test]
fn attached_twice_it_sees_each_event_once_as_long_as_either_window_is_open() {
    in_test(SOURCE, |eval, host| {
        let m = value(eval, "m");
        let outer = activate(eval, &[m, m]).unwrap();
        let inner = activate(eval, &[m]).unwrap();
        happen(host);
        deactivate(eval, outer).unwrap();
        happen(host);
        deactivate(eval, inner).unwrap();
        happen(host);
        assert_eq!(seen(eval), "[1, 2]");
    });
}

#[test]
fn a_violation_comes_out_where_the_window_ends_and_stays() {
    in_test(SOURCE, |eval, host| {
        let window = activate(eval, &[value(eval, "n")]).unwrap();
        happen(host);
        let error = deactivate(eval, window).unwrap_err();
        assert!(error.to_string().contains("monitor violation: no (event #1)"), "{error}");
        let context = Context::of(eval).unwrap();
        let again = context.test("db.main.send()").err().unwrap();
        assert_eq!(again.to_string(), "monitor violation: no (event #1)");
    });
}

#[test]
fn only_monitors_can_be_attached() {
    in_test(SOURCE, |eval, _| {
        let error = check_monitors("fault_matrix()", &[value(eval, "seen")]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "fault_matrix(): monitors= must be a list of monitors, got list"
        );
        assert_eq!(idle_warnings(eval).len(), 2);
        check_monitors("x()", &[value(eval, "m"), value(eval, "n")]).unwrap();
        assert_eq!(idle_warnings(eval).len(), 0);
    });
}

#[test]
fn a_window_that_is_never_closed_ends_with_the_test() {
    in_test(SOURCE, |eval, host| {
        let m = value(eval, "m");
        let _ = activate(eval, &[m]).unwrap();
        happen(host);
        end_test(eval, Ok(Value::new_none())).unwrap();
        happen(host);
        deliver(eval).unwrap();
        assert_eq!(seen(eval), "[1]");
    });
}
