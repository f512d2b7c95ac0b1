//! What an evaluation keeps of the tests that a file registers by calls: their functions are
//! values of its heap, and so found again only by who has evaluated the file.

use std::{cell::RefCell, fmt};

use allocative::Allocative;
use starlark::{
    environment::Module,
    eval::Evaluator,
    values::{
        NoSerialize, ProvidesStaticType, StarlarkValue, Trace, Value, ValueLike, starlark_value,
    },
};

use crate::spec::{
    Hook, Location, Matrix, TestDeclaration, composition::Composition, failure::Raised,
};

use super::{Hooks, never_frozen};

/// A test that was registered by a call.
#[derive(Debug, Clone, Trace)]
pub(in crate::spec) struct Registered<'v> {
    /// What is known of it outside of the evaluation.
    #[trace(static)]
    pub(in crate::spec) declaration: TestDeclaration,
    /// Where.
    #[trace(static)]
    pub(in crate::spec) location: Option<Location>,
    /// What it does.
    pub(in crate::spec) composition: Composition<'v>,
}

/// The tests of one module. It is the module's extra value.
#[derive(Debug, Default, ProvidesStaticType, NoSerialize, Allocative, Trace)]
pub(in crate::spec) struct Registry<'v> {
    #[allocative(skip)]
    tests: RefCell<Vec<Registered<'v>>>,
    /// Of each service, by name.
    #[allocative(skip)]
    hooks: RefCell<Vec<(String, Hooks<'v>)>>,
    #[allocative(skip)]
    scenarios: RefCell<Vec<Value<'v>>>,
    #[allocative(skip)]
    #[trace(static)]
    matrices: RefCell<Vec<Matrix>>,
}

impl<'v> Registry<'v> {
    /// Gives a module an empty one.
    pub(in crate::spec) fn attach(module: &Module<'v>) {
        module.set_extra_value(module.heap().alloc(Self::default()));
    }

    /// That of the module that is being evaluated.
    pub(in crate::spec) fn of(eval: &Evaluator<'v, '_, '_>) -> Result<&'v Self, Raised> {
        let value = eval.module().extra_value();
        let registry = value.and_then(ValueLike::downcast_ref::<Self>);
        registry.ok_or_else(|| Raised::error("evaluated without a registry (a bug in faultbox)"))
    }

    /// Adds a test.
    pub(in crate::spec) fn add(&self, test: Registered<'v>) {
        self.tests.borrow_mut().push(test);
    }

    /// Notes the functions about a service's data.
    pub(in crate::spec) fn add_hooks(&self, service: &str, hooks: Hooks<'v>) {
        self.hooks.borrow_mut().push((service.to_owned(), hooks));
    }

    /// The function to be called for a service, if it has one.
    pub(in crate::spec) fn hook(&self, service: &str, hook: Hook) -> Option<Value<'v>> {
        let hooks = self.hooks.borrow();
        let (_, hooks) = hooks.iter().find(|(name, _)| name == service)?;
        match hook {
            Hook::Seed => hooks.seed,
            Hook::Reset => hooks.reset.or(hooks.seed),
        }
    }

    /// Adds a scenario; false when it is there already.
    pub(in crate::spec) fn add_scenario(&self, function: Value<'v>) -> bool {
        let mut scenarios = self.scenarios.borrow_mut();
        let is_new = !scenarios.iter().any(|it| it.ptr_eq(function));
        if is_new {
            scenarios.push(function);
        }
        is_new
    }

    /// Adds a matrix and returns its index.
    pub(in crate::spec) fn add_matrix(&self, matrix: Matrix) -> usize {
        let mut matrices = self.matrices.borrow_mut();
        matrices.push(matrix);
        matrices.len() - 1
    }

    /// All tests so far, in the order registered.
    pub(in crate::spec) fn tests(&self) -> Vec<Registered<'v>> {
        self.tests.borrow().clone()
    }

    /// The functions given to `scenario()`, in the order registered, each once.
    pub(in crate::spec) fn scenarios(&self) -> Vec<Value<'v>> {
        self.scenarios.borrow().clone()
    }

    /// All matrices so far.
    pub(in crate::spec) fn matrices(&self) -> Vec<Matrix> {
        self.matrices.borrow().clone()
    }

    /// The test of that name.
    pub(in crate::spec) fn find(&self, name: &str) -> Option<Registered<'v>> {
        self.tests.borrow().iter().find(|it| it.declaration.name == name).cloned()
    }
}

impl fmt::Display for Registry<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("registry")
    }
}

#[starlark_value(type = "registry", ty_vtable_no_freeze)]
impl<'v> StarlarkValue<'v> for Registry<'v> {}
never_frozen!(Registry<'v>);
