//! Which tests an evaluated file has (language.md 1.7).

use std::collections::{BTreeMap, HashMap};

use starlark::{
    environment::Module,
    syntax::{AstModule, ast::StmtP},
    values::Value,
};

use super::{
    Location, Scenario, SpecError, SpecFile, TestDeclaration, TestKind, file, suggest::quoted,
    values::Registry,
};

/// Where the functions of a file are defined at its top level, in the order written.
pub(super) type Definitions = Vec<(String, Location)>;

/// The definitions at the top level.
pub(super) fn definitions(module: &AstModule) -> Definitions {
    let statement = module.statement();
    let statements = match &statement.node {
        StmtP::Statements(statements) => statements.as_slice(),
        _ => std::slice::from_ref(statement),
    };
    statements
        .iter()
        .filter_map(|statement| match &statement.node {
            StmtP::Def(def) => Some((
                def.name.node.ident.clone(),
                file::location(&module.file_span(statement.span)),
            )),
            _ => None,
        })
        .collect()
}

/// The tests of an evaluated module, in the order of their names.
pub(super) fn tests<'v>(
    file: &SpecFile,
    module: &Module<'v>,
    definitions: &Definitions,
    registry: &Registry<'v>,
) -> Result<Vec<TestDeclaration>, SpecError> {
    let mut tests: BTreeMap<String, TestDeclaration> = functions(file, module, definitions)?
        .into_iter()
        .map(|name| {
            let kind = TestKind::Function;
            let test =
                TestDeclaration { name: name.clone(), kind, timeout: None, must_fire: false };
            (name, test)
        })
        .collect();
    for registered in registry.tests() {
        let test = registered.declaration;
        if let Some(other) = tests.get(&test.name) {
            let function = module.get(&test.name).filter(|_| other.kind == TestKind::Function);
            let is_same = function.is_some_and(|it| it.ptr_eq(registered.composition.scenario));
            if is_same && test.kind == TestKind::Scenario {
                continue;
            }
            let twice = declared_twice(&test.name);
            return Err(match registered.location {
                Some(location) => file.error_at(location, twice),
                None => SpecError::whole(format!("{}: {twice}", file.path())),
            });
        }
        tests.insert(test.name.clone(), test);
    }
    Ok(tests.into_values().collect())
}

/// What was given to `scenario()`, by the variables of the module that hold it.
pub(super) fn scenarios<'v>(module: &Module<'v>, registry: &Registry<'v>) -> Vec<Scenario> {
    let of_function = |function: Value<'v>| {
        let own = function.function_name().unwrap_or_default();
        let is_it = |name: &str| module.get(name).is_some_and(|it| it.ptr_eq(function));
        let name = if is_it(own) {
            own.to_owned()
        } else {
            let variable = module.names().find(|it| is_it(it.as_str()));
            variable.map_or_else(|| own.to_owned(), |it| it.as_str().to_owned())
        };
        Scenario { name }
    };
    registry.scenarios().into_iter().map(of_function).collect()
}

/// Names of the global functions that are tests.
fn functions(
    file: &SpecFile,
    module: &Module<'_>,
    definitions: &Definitions,
) -> Result<Vec<String>, SpecError> {
    let mut places: HashMap<&str, &Location> = HashMap::new();
    for (name, place) in definitions.iter().filter(|(name, _)| name.starts_with("test_")) {
        if places.insert(name, place).is_some() {
            // Starlark would let the second hide the first, and so a test vanish.
            return Err(file.error_at(place.clone(), declared_twice(name)));
        }
    }
    let mut tests = Vec::new();
    for name in module.names().filter(|name| name.starts_with("test_")) {
        let name = name.as_str();
        if file.imports(name) && !places.contains_key(name) {
            continue;
        }
        // Only `def` and `lambda` have parameters to be known; anything else is not a test.
        let Some(parameters) = module.get(name).and_then(Value::parameters_spec) else {
            continue;
        };
        if parameters.len() > 0 {
            let text = format!("test {}: a test function takes no parameters", quoted(name));
            return Err(match places.get(name) {
                Some(place) => file.error_at((*place).clone(), text),
                None => SpecError::whole(format!("{}: {text}", file.path())),
            });
        }
        tests.push(name.to_owned());
    }
    Ok(tests)
}

fn declared_twice(name: &str) -> String {
    format!("test {} declared twice", quoted(name))
}
