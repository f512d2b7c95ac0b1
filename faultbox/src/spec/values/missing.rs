//! Builtins of the language that this version does not have.

use std::fmt;

use allocative::Allocative;
use starlark::{
    eval::{Arguments, Evaluator},
    values::{
        NoSerialize, ProvidesStaticType, StarlarkValue, Trace, Value, function::FUNCTION_TYPE,
        starlark_value,
    },
};

use crate::spec::failure::Raised;

use super::never_frozen;

/// Stands where a builtin will be and says that it is not there.
#[derive(Debug, ProvidesStaticType, NoSerialize, Allocative, Trace)]
pub(in crate::spec) struct Missing {
    pub(in crate::spec) name: &'static str,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

#[starlark_value(type = FUNCTION_TYPE, ty_vtable_no_freeze)]
impl<'v> StarlarkValue<'v> for Missing {
    fn invoke(
        &self,
        _me: Value<'v>,
        _arguments: &Arguments<'v, '_>,
        _eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<Value<'v>> {
        Err(Raised::error(format!("{}(): not supported by this version", self.name)).into())
    }
}
never_frozen!(Missing);
