//! Evaluating a file, and calling the tests it defines.

use starlark::{PrintHandler, environment::Module, eval::Evaluator, values::ValueLike};

use super::{
    Declarations, FailureKind, Hook, Host, SpecError, SpecFile, TestFailure, builtins,
    context::Context,
    declarations::check_dependencies,
    discovery::{definitions, scenarios, tests},
    failure::Raised,
    file::parse,
    layout, monitors,
    values::{LoadValue, Registry, ServiceValue},
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
        monitors::prepare(&module);
        let context = Context::new(host);
        let printer = Printer(host);
        let eval = evaluator(&module, &context, &printer);
        let mut eval =
            eval.map_err(|error| SpecError::whole(format!("{}: {error}", file.path())))?;

        provide_loaded_files(file, &context, &mut eval)?;
        eval.eval_module(ast, builtins::globals())
            .map_err(|error| spec_error(file, &context, &error))?;
        let services = context.services();
        check_dependencies(file, &services)?;
        let registry = Registry::of(&eval).map_err(|error| SpecError::whole(error.to_string()))?;
        let declarations = Declarations {
            services,
            tests: tests(file, &module, &definitions, registry)?,
            scenarios: scenarios(&module, registry),
            matrices: registry.matrices(),
        };
        for warning in monitors::idle_warnings(&eval) {
            host.print(&warning);
        }
        Ok(then(&mut Loaded { eval, context: &context, declarations }))
    })
}

/// Something that evaluates in a module, within the limits. There may be several of them at once,
/// on the module's thread: each has its own calls, and values are everybody's.
pub(super) fn evaluator<'v, 'a, 'e>(
    module: &'a Module<'v>,
    context: &'a Context<'e>,
    printer: &'a Printer<'e>,
) -> Result<Evaluator<'v, 'a, 'e>, impl std::fmt::Display + use<>> {
    let mut eval = Evaluator::new(module);
    // Collection happens between statements at the top level only, and would recurse into
    // nested values; tests are short, and the heap is bounded instead.
    eval.disable_gc();
    eval.extra = Some(context);
    eval.set_print_handler(printer);
    eval.set_check_cancelled(Box::new(|| context.is_cancelled()));
    eval.set_max_callstack_size(DEEPEST_CALLS)
        .and_then(|()| eval.set_max_heap_size(LARGEST_HEAP))
        .map(|()| eval)
}

impl Loaded<'_, '_, '_> {
    /// What the file declares.
    pub fn declarations(&self) -> &Declarations {
        &self.declarations
    }

    /// The globals that other files can load, in the order of their names.
    pub fn exports(&self) -> Vec<String> {
        let names = self.eval.module().names().map(|it| it.as_str().to_owned());
        let mut names: Vec<_> = names.filter(|it| !it.starts_with('_')).collect();
        names.sort_unstable();
        names
    }

    /// The globals whose values are services, each with the service's name, in the order of the
    /// variables' names.
    pub fn service_variables(&self) -> Vec<(String, String)> {
        let service = |variable: String| {
            let value = self.eval.module().get(&variable)?;
            let service = value.downcast_ref::<ServiceValue>()?;
            Some((variable, service.service.name.clone()))
        };
        self.exports().into_iter().filter_map(service).collect()
    }

    /// Calls a test by its full name. Returns what it, or its scenario, returned, as `repr()`
    /// shows it, unless that is `None`.
    pub fn call(&mut self, test: &str) -> Result<Option<String>, TestFailure> {
        let registered = Registry::of(&self.eval).ok().and_then(|registry| registry.find(test));
        self.context.set_running(true);
        let result = monitors::begin_test(&mut self.eval).and_then(|()| {
            if let Some(registered) = &registered {
                registered.composition.run(&mut self.eval)
            } else if let Some(function) = self.eval.module().get(test) {
                self.eval.eval_function(function, &[], &[])
            } else {
                Err(Raised::error(format!("no test is called {test:?}")).into())
            }
        });
        // The monitors' last look takes time, which is not the test's.
        let result = match result {
            Ok(value) => self.context.check_time().map(|()| value).map_err(Into::into),
            Err(error) => Err(TestFailure::settle(&error, self.context)),
        };
        let result = monitors::end_test(&mut self.eval, result);
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

impl Loaded<'_, '_, '_> {
    /// Calls a function about a service's data, if the spec has it.
    pub fn call_hook(&mut self, service: &str, hook: Hook) -> Result<(), TestFailure> {
        let registry = Registry::of(&self.eval).ok();
        let Some(function) = registry.and_then(|it| it.hook(service, hook)) else {
            return Ok(());
        };
        self.context.set_running(true);
        let result = self.eval.eval_function(function, &[], &[]);
        self.context.set_running(false);
        match result {
            Ok(_) => Ok(()),
            Err(error) => Err(TestFailure::of(&error, self.context)),
        }
    }
}

/// Makes the files that a spec loads functions in its module, and its `load()` a call that
/// evaluates them.
fn provide_loaded_files(
    file: &SpecFile,
    context: &Context<'_>,
    eval: &mut Evaluator<'_, '_, '_>,
) -> Result<(), SpecError> {
    let library = file.library();
    if library.files.is_empty() {
        return Ok(());
    }
    let value = eval.heap().alloc(LoadValue::new(library.clone()));
    // Before the files are compiled, which must find it.
    eval.module().set(&library.function, value);
    for loaded in &library.files {
        let ast = parse(&layout::marked(&loaded.path), &loaded.text, &loaded.source)?;
        let function = eval.eval_module(ast, builtins::globals());
        let function = function.map_err(|error| spec_error(file, context, &error))?;
        if let Some(value) = value.downcast_ref::<LoadValue>() {
            value.add(function);
        }
    }
    Ok(())
}

/// What an error while a file is evaluated means to the user.
fn spec_error(file: &SpecFile, context: &Context<'_>, error: &starlark::Error) -> SpecError {
    let failure = TestFailure::of(error, context);
    let text = match failure.kind {
        FailureKind::Timeout => "stopped before it was evaluated to its end".to_owned(),
        _ => failure.reason,
    };
    match failure.location {
        Some(location) => file.error_at(location, text),
        None => SpecError::whole(format!("{}: {text}", file.path())),
    }
}

/// Gives the lines of `print()` to the host.
pub(super) struct Printer<'e>(pub(super) &'e dyn Host);

impl PrintHandler for Printer<'_> {
    fn println(&self, text: &str) -> starlark::Result<()> {
        self.0.print(text);
        Ok(())
    }
}
