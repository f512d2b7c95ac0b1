//! What `fault_assumption()` returns: a named way for things to go wrong.

use std::{fmt, hash::Hash, sync::Arc};

use allocative::Allocative;
use starlark::{
    collections::StarlarkHasher,
    values::{Heap, NoSerialize, ProvidesStaticType, StarlarkValue, Trace, Value, starlark_value},
};

use crate::spec::{FaultRequest, suggest::quoted};

use super::never_frozen;

/// Rules that one assumption has declared on its target.
#[derive(Debug)]
pub(in crate::spec) struct AssumedRules {
    /// How errors name the assumption: `fault_assumption("db_down")`.
    pub(in crate::spec) who: String,
    /// Asks for the rules.
    pub(in crate::spec) request: FaultRequest,
}

/// A set of rules, each on its own target, and what must hold while they are on. Nothing changes
/// it once it is declared, so none can contain itself.
#[derive(Debug, ProvidesStaticType, NoSerialize, Allocative, Trace)]
pub(in crate::spec) struct AssumptionValue<'v> {
    pub(in crate::spec) name: String,
    pub(in crate::spec) description: String,
    /// Those of its children, in their order, then its own; each once.
    #[allocative(skip)]
    #[trace(static)]
    pub(in crate::spec) rules: Vec<Arc<AssumedRules>>,
    /// Likewise.
    pub(in crate::spec) monitors: Vec<Value<'v>>,
}

impl<'v> AssumptionValue<'v> {
    /// Rules and monitors of several assumptions, each once although several have it.
    pub(in crate::spec) fn union<'a>(
        assumptions: impl IntoIterator<Item = &'a Self>,
    ) -> (Vec<Arc<AssumedRules>>, Vec<Value<'v>>)
    where
        'v: 'a,
    {
        let (mut rules, mut monitors) = (Vec::<Arc<AssumedRules>>::new(), Vec::new());
        for assumption in assumptions {
            for new in &assumption.rules {
                if !rules.iter().any(|it| Arc::ptr_eq(it, new)) {
                    rules.push(new.clone());
                }
            }
            add_each_once(&mut monitors, &assumption.monitors);
        }
        (rules, monitors)
    }
}

/// Adds values that are not there yet, by identity.
pub(in crate::spec) fn add_each_once<'v>(values: &mut Vec<Value<'v>>, more: &[Value<'v>]) {
    for new in more {
        if !values.iter().any(|it| it.ptr_eq(*new)) {
            values.push(*new);
        }
    }
}

impl fmt::Display for AssumptionValue<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "fault_assumption({})", quoted(&self.name))
    }
}

#[starlark_value(type = "fault_assumption", ty_vtable_no_freeze)]
impl<'v> StarlarkValue<'v> for AssumptionValue<'v> {
    fn get_attr(&self, attribute: &str, heap: Heap<'v>) -> Option<Value<'v>> {
        match attribute {
            "name" => Some(heap.alloc(&*self.name)),
            "description" => Some(heap.alloc(&*self.description)),
            _ => None,
        }
    }

    fn dir_attr(&self) -> Vec<String> {
        vec!["description".to_owned(), "name".to_owned()]
    }

    // Equality is identity, which is the evaluator's default.
    fn write_hash(&self, hasher: &mut StarlarkHasher) -> starlark::Result<()> {
        self.name.hash(hasher);
        Ok(())
    }
}
never_frozen!(AssumptionValue<'v>);
