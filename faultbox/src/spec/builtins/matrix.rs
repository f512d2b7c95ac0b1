//! `fault_matrix(scenarios=, faults=, …)` (language.md 1.11).

use starlark::{
    environment::GlobalsBuilder,
    eval::{Arguments, Evaluator},
    starlark_module,
    values::{Value, ValueLike, dict::DictRef, none::NoneType, tuple::TupleRef},
};

use crate::spec::{
    Matrix, TestDeclaration, TestKind,
    arguments::{Call, short_repr},
    composition::Composition,
    context::{Context, caller},
    failure::Raised,
    values::{AssumptionValue, Registered, Registry, add_each_once},
};

use super::{
    assumption::{assumptions, monitors},
    function,
    scenario::{judge, only_while_loading, timeout},
};

const VALID: &[&str] = &[
    "scenarios",
    "faults",
    "default_expect",
    "overrides",
    "monitors",
    "exclude",
    "require_faults_fire",
    "timeout",
];

#[starlark_module]
pub(super) fn register(builder: &mut GlobalsBuilder) {
    /// Registers a test for each pair of a scenario and an assumption.
    fn fault_matrix<'v>(
        arguments: &Arguments<'v, '_>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<NoneType> {
        let mut call = Call::new("fault_matrix()", arguments, eval.heap())?;
        only_while_loading(&call, eval)?;
        let axes = Axes::take(&mut call)?;
        let cells = cells(call, &axes)?;
        let name_of = |cell: &Cell<'_>| {
            let (row, column) = (axes.scenarios[cell.scenario].1, &axes.faults[cell.fault].name);
            format!("test_matrix_{row}_{column}")
        };
        let context = Context::of(eval)?;
        // Asked for each: those of a loaded file are counted.
        let own = cells.tests.iter().filter(|cell| context.declares_test(&name_of(cell))).count();
        if own < cells.tests.len() {
            return Ok(NoneType);
        }
        let registry = Registry::of(eval)?;
        let matrix = registry.add_matrix(Matrix {
            scenarios: axes.scenarios.iter().map(|(_, name)| (*name).to_owned()).collect(),
            faults: axes.faults.iter().map(|it| it.name.clone()).collect(),
            excluded: cells.excluded,
        });
        let location = caller(eval);
        for cell in cells.tests {
            let name = name_of(&cell);
            let Cell { scenario, fault, composition } = cell;
            registry.add(Registered {
                declaration: TestDeclaration {
                    name,
                    kind: TestKind::Cell { matrix, scenario, fault },
                    timeout: Some(cells.timeout),
                    must_fire: cells.must_fire,
                },
                location: location.clone(),
                composition,
            });
        }
        Ok(NoneType)
    }
}

/// What a matrix crosses.
struct Axes<'v> {
    /// With their names.
    scenarios: Vec<(Value<'v>, &'v str)>,
    /// What the spec has for them.
    values: Vec<Value<'v>>,
    /// Likewise, as what they are.
    faults: Vec<&'v AssumptionValue<'v>>,
}

impl<'v> Axes<'v> {
    fn take(call: &mut Call<'v>) -> Result<Self, Raised> {
        let mut scenarios: Vec<(Value, &str)> = Vec::new();
        for (i, value) in list(call, "scenarios")?.into_iter().enumerate() {
            let (function, name) = function::scenario(call, &format!("scenarios[{i}]"), value)?;
            if scenarios.iter().any(|(_, it)| *it == name) {
                return Err(call.wrong(format_args!("scenarios= has {name} twice")));
            }
            scenarios.push((function, name));
        }
        let values = list(call, "faults")?;
        let faults = assumptions(call, &values)?;
        for (i, fault) in faults.iter().enumerate() {
            if faults[..i].iter().any(|it| it.name == fault.name) {
                return Err(call.wrong(format_args!("faults= has {} twice", fault.name)));
            }
        }
        Ok(Self { scenarios, values, faults })
    }

    /// The row and the column that a key of `overrides=` or an entry of `exclude=` means.
    fn cell(&self, call: &Call<'v>, what: &str, pair: Value<'v>) -> Result<(usize, usize), Raised> {
        let pair_of = TupleRef::from_value(pair).map(|it| it.content().to_vec());
        let Some([scenario, fault]) = pair_of.as_deref() else {
            let got = pair.get_type();
            return Err(
                call.wrong(format_args!("{what} must be a pair (scenario, assumption), got {got}"))
            );
        };
        let row = self.scenarios.iter().position(|(it, _)| it.ptr_eq(*scenario));
        let column = self.values.iter().position(|it| it.ptr_eq(*fault));
        row.zip(column).ok_or_else(|| {
            let (scenario, fault) = (named(*scenario), named(*fault));
            call.wrong(format_args!("{what} ({scenario}, {fault}) is not a cell of this matrix"))
        })
    }
}

/// What a part of a key is called in the spec.
fn named(value: Value<'_>) -> String {
    if let Some(assumption) = value.downcast_ref::<AssumptionValue>() {
        return assumption.name.clone();
    }
    value.function_name().map_or_else(|| short_repr(value), str::to_owned)
}

/// A list that must have something in it.
fn list<'v>(call: &mut Call<'v>, name: &str) -> Result<Vec<Value<'v>>, Raised> {
    let Some(value) = call.optional(name) else {
        return Err(call.wrong(format_args!("{name}= is required")));
    };
    let values = call.as_list(&format!("{name}="), value)?;
    if values.is_empty() {
        return Err(call.wrong(format_args!("{name}= must not be empty")));
    }
    Ok(values)
}

/// What the other arguments make of the pairs.
struct Cells<'v> {
    tests: Vec<Cell<'v>>,
    excluded: Vec<(usize, usize)>,
    timeout: std::time::Duration,
    must_fire: bool,
}

/// A pair that is a test.
struct Cell<'v> {
    scenario: usize,
    fault: usize,
    composition: Composition<'v>,
}

fn cells<'v>(mut call: Call<'v>, axes: &Axes<'v>) -> Result<Cells<'v>, Raised> {
    let default_expect = judge(&mut call, "default_expect")?;
    let overrides = overrides(&mut call, axes)?;
    let mut excluded = Vec::new();
    if let Some(pairs) = call.optional("exclude") {
        for pair in call.as_list("exclude=", pairs)? {
            let place = axes.cell(&call, "exclude entry", pair)?;
            if !excluded.contains(&place) {
                excluded.push(place);
            }
        }
    }
    let common = monitors(&mut call)?;
    let must_fire = call.boolean("require_faults_fire")?.unwrap_or(false);
    let timeout = timeout(&mut call)?;
    call.finish(VALID)?;

    let mut tests = Vec::new();
    for (row, (scenario, name)) in axes.scenarios.iter().enumerate() {
        for (column, fault) in axes.faults.iter().enumerate() {
            if excluded.contains(&(row, column)) {
                continue;
            }
            let own = overrides.iter().find(|(cell, _)| *cell == (row, column));
            let mut monitors = fault.monitors.clone();
            add_each_once(&mut monitors, &common);
            let composition = Composition {
                who: format!("fault_matrix() cell ({name}, {})", fault.name),
                scenario: *scenario,
                rules: fault.rules.clone(),
                monitors,
                expect: own.map_or(default_expect, |(_, expect)| *expect),
            };
            tests.push(Cell { scenario: row, fault: column, composition });
        }
    }
    if tests.is_empty() {
        return Err(call.wrong("exclude= leaves no cell"));
    }
    Ok(Cells { tests, excluded, timeout, must_fire })
}

/// Cells with what judges them instead of `default_expect=`; nothing where `None` is given.
type Overrides<'v> = Vec<((usize, usize), Option<Value<'v>>)>;

fn overrides<'v>(call: &mut Call<'v>, axes: &Axes<'v>) -> Result<Overrides<'v>, Raised> {
    let Some(value) = call.optional("overrides") else {
        return Ok(Vec::new());
    };
    let Some(dict) = DictRef::from_value(value) else {
        return Err(call.wrong_type("overrides=", "a dict", value));
    };
    let mut overrides = Vec::new();
    for (pair, expect) in dict.iter() {
        let (row, column) = axes.cell(call, "overrides key", pair)?;
        let what = format!("overrides[({}, {})]", axes.scenarios[row].1, axes.faults[column].name);
        let expect = Some(expect).filter(|it| !it.is_none());
        let expect = expect.map(|it| function::with_one_parameter(call, &what, it)).transpose()?;
        overrides.push(((row, column), expect));
    }
    Ok(overrides)
}
