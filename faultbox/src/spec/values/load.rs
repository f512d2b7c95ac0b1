//! What a `load()` statement becomes: a call that evaluates a file, once, and gives its globals.

use std::{cell::RefCell, fmt, sync::Arc};

use allocative::Allocative;
use starlark::{
    eval::{Arguments, Evaluator},
    values::{
        NoSerialize, ProvidesStaticType, StarlarkValue, Trace, Value, dict::DictRef,
        function::FUNCTION_TYPE, list::AllocList, starlark_value,
    },
};

use crate::spec::{
    arguments::Call,
    context::Context,
    failure::Raised,
    library::{Library, LoadedFile},
    suggest::quoted,
};

use super::never_frozen;

/// Loads the files of a library into one evaluation.
#[derive(Debug, ProvidesStaticType, NoSerialize, Allocative, Trace)]
pub(in crate::spec) struct LoadValue<'v> {
    #[allocative(skip)]
    #[trace(static)]
    library: Arc<Library>,
    /// The files as functions: see `layout::wrapped`.
    files: RefCell<Vec<Value<'v>>>,
    /// What those functions have returned.
    loaded: RefCell<Vec<Option<Value<'v>>>>,
}

impl<'v> LoadValue<'v> {
    /// Knows the files, but not yet the functions.
    pub(in crate::spec) fn new(library: Arc<Library>) -> Self {
        let loaded = RefCell::new(vec![None; library.files.len()]);
        Self { library, files: RefCell::default(), loaded }
    }

    /// Adds the function of the next file.
    pub(in crate::spec) fn add(&self, function: Value<'v>) {
        self.files.borrow_mut().push(function);
    }

    /// The globals of a file, by name, each behind a function.
    fn globals(
        &self,
        index: usize,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<Value<'v>> {
        if let Some(globals) = self.loaded.borrow()[index] {
            return Ok(globals);
        }
        let context = Context::of(eval)?;
        let LoadedFile { path, tests, .. } = &self.library.files[index];
        context.begin_loaded_file(tests);
        let function = self.files.borrow()[index];
        let globals = eval.eval_function(function, &[], &[]);
        let tests = context.end_loaded_file();
        let globals = globals?;
        if tests > 0 {
            let plural = if tests == 1 { "" } else { "s" };
            context.print(&format!("note: {tests} test{plural} declared in {path} not run"));
        }
        self.loaded.borrow_mut()[index] = Some(globals);
        Ok(globals)
    }
}

impl fmt::Display for LoadValue<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("load")
    }
}

#[starlark_value(type = FUNCTION_TYPE, ty_vtable_no_freeze)]
impl<'v> StarlarkValue<'v> for LoadValue<'v> {
    fn invoke(
        &self,
        _me: Value<'v>,
        arguments: &Arguments<'v, '_>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<Value<'v>> {
        let mut call = Call::new("load()", arguments, eval.heap())?;
        let number = call.next("site")?.and_then(Value::unpack_i32);
        let number = number.and_then(|it| usize::try_from(it).ok());
        let Some(site) = number.and_then(|it| self.library.sites.get(it)) else {
            return Err(call.wrong("not a statement of this spec (a bug in faultbox)").into());
        };
        let globals = self.globals(site.file, eval)?;
        let mut values = Vec::with_capacity(site.symbols.len());
        for symbol in &site.symbols {
            let read = DictRef::from_value(globals).and_then(|it| it.get_str(symbol));
            match read.map(|read| eval.eval_function(read, &[], &[])) {
                Some(Ok(value)) => values.push(value),
                Some(Err(error)) if !is_unassigned(&error) => return Err(error),
                _ => {
                    let (path, symbol) = (&self.library.files[site.file].path, quoted(symbol));
                    let text = format!("{path} gives {symbol} no value when it is evaluated");
                    return Err(Raised::error(text).into());
                }
            }
        }
        Ok(eval.heap().alloc(AllocList(values)))
    }
}
never_frozen!(LoadValue<'v>);

/// Whether an error is that of a variable without a value, for which the evaluator has no type.
fn is_unassigned(error: &starlark::Error) -> bool {
    error.kind().to_string().contains("referenced before assignment")
}
