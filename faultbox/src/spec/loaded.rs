//! Evaluating a file, and calling the tests it defines.

use starlark::{PrintHandler, environment::Module, eval::Evaluator};

use super::{
    Declarations, FailureKind, Host, SpecError, SpecFile, TestFailure, builtins,
    context::Context,
    declarations::check_dependencies,
    discovery::{definitions, scenarios, tests},
    failure::Raised,
    values::Registry,
};

/// How many calls may be inside each other. Measured: they take 1 to 4 MiB of stack.
pub(super) const DEEPEST_CALLS: usize = 1000;

/// How much memory the values of one evaluation may take, in bytes.
pub(super) const LARGEST_HEAP: usize = 512 << 20;

/// An evaluated file whose tests can be called. Lives on the thread that evaluated it.
pub struct Loaded<'v, 'a, 'e> {
    eval: Evaluator<'v, 'a, 'e>,
    context: &'a Context<'e>,
    declarations: Declarations,
}

/// Evaluates a file in a module of its own on the calling thread, and hands what it declares to
/// `then` while the module is alive, so that tests can be called. Nothing is shared with other
/// evaluations: globals are fresh, and stay mutable for the tests.
///
/// While the file is evaluated, `host` takes what it prints and may cancel it; steps and faults
/// are errors until a test is called.
///
/// The thread needs 8 MiB of stack at least: functions of the spec may call each other a
/// thousand deep.
pub fn evaluate<R>(
    file: &SpecFile,
    host: &dyn Host,
    then: impl FnOnce(&mut Loaded<'_, '_, '_>) -> R,
) -> Result<R, SpecError> {
    let ast = file.parse()?;
    let definitions = definitions(&ast);
    Module::with_temp_heap(|module| {
        builtins::announce_missing(&module);
        Registry::attach(&module);
        let context = Context::new(host);
        let printer = Printer(host);
        let mut eval = Evaluator::new(&module);
        // Collection happens between statements at the top level only, and would recurse into
        // nested values; tests are short, and the heap is bounded instead.
        eval.disable_gc();
        eval.extra = Some(&context);
        eval.set_print_handler(&printer);
        eval.set_check_cancelled(Box::new(|| host.is_cancelled()));
        let limits = eval
            .set_max_callstack_size(DEEPEST_CALLS)
            .and_then(|()| eval.set_max_heap_size(LARGEST_HEAP));
        limits.map_err(|error| SpecError::whole(format!("{}: {error}", file.path())))?;

        eval.eval_module(ast, builtins::globals()).map_err(|error| {
            let failure = TestFailure::of(&error, &context);
            let text = match failure.kind {
                FailureKind::Timeout => "stopped before it was evaluated to its end".to_owned(),
                _ => failure.reason,
            };
            match failure.location {
                Some(location) => file.error_at(location, text),
                None => SpecError::whole(format!("{}: {text}", file.path())),
            }
        })?;
        let services = context.services();
        check_dependencies(file, &services)?;
        let registry = Registry::of(&eval).map_err(|error| SpecError::whole(error.to_string()))?;
        let declarations = Declarations {
            services,
            tests: tests(file, &module, &definitions, registry)?,
            scenarios: scenarios(&module, registry),
            matrices: registry.matrices(),
        };
        Ok(then(&mut Loaded { eval, context: &context, declarations }))
    })
}

impl Loaded<'_, '_, '_> {
    /// What the file declares.
    pub fn declarations(&self) -> &Declarations {
        &self.declarations
    }

    /// Calls a test by its full name. Returns what it, or its scenario, returned, as `repr()`
    /// shows it, unless that is `None`.
    pub fn call(&mut self, test: &str) -> Result<Option<String>, TestFailure> {
        let registered = Registry::of(&self.eval).ok().and_then(|registry| registry.find(test));
        self.context.set_running(true);
        let result = if let Some(registered) = &registered {
            registered.composition.run(&mut self.eval)
        } else if let Some(function) = self.eval.module().get(test) {
            self.eval.eval_function(function, &[], &[])
        } else {
            Err(Raised::error(format!("no test is called {test:?}")).into())
        };
        self.context.set_running(false);
        match result {
            Ok(value) if value.is_none() => Ok(None),
            Ok(value) => Ok(Some(value.to_repr())),
            Err(error) => {
                let failure = TestFailure::of(&error, self.context);
                let declared = registered.and_then(|it| it.location);
                Err(TestFailure { location: failure.location.or(declared), ..failure })
            }
        }
    }
}

/// Gives the lines of `print()` to the host.
struct Printer<'e>(&'e dyn Host);

impl PrintHandler for Printer<'_> {
    fn println(&self, text: &str) -> starlark::Result<()> {
        self.0.print(text);
        Ok(())
    }
}
