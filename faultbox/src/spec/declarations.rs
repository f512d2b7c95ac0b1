//! What a file declares, checked as a whole once it is evaluated.

use std::collections::HashMap;

use starlark::{
    environment::Module,
    syntax::{AstModule, ast::StmtP},
    values::Value,
};

use super::{
    Location, Service, SpecError, SpecFile, file,
    suggest::{did_you_mean, quoted},
};

/// What a file declares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declarations {
    /// In the order declared. Their `depends_on` name each other without a cycle.
    pub services: Vec<Service>,
    /// Names of the test functions in ascending byte order, `test_` included. At least one.
    pub tests: Vec<String>,
}

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

/// The tests of an evaluated module.
pub(super) fn tests(
    file: &SpecFile,
    module: &Module<'_>,
    definitions: &Definitions,
) -> Result<Vec<String>, SpecError> {
    let mut places: HashMap<&str, &Location> = HashMap::new();
    for (name, place) in definitions.iter().filter(|(name, _)| name.starts_with("test_")) {
        if places.insert(name, place).is_some() {
            // Starlark would let the second hide the first, and so a test vanish.
            let text = format!("test {} declared twice", quoted(name));
            return Err(file.error_at(place.clone(), text));
        }
    }
    let mut tests = Vec::new();
    for name in module.names().filter(|name| name.starts_with("test_")) {
        let name = name.as_str();
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
    if tests.is_empty() {
        return Err(SpecError::whole(format!(
            "no tests found in {} (define test_* functions, scenario(), fault_scenario() or \
             fault_matrix())",
            file.path()
        )));
    }
    tests.sort_unstable();
    Ok(tests)
}

/// Checks that every `depends_on` is declared and that none leads back to where it began.
pub(super) fn check_dependencies(file: &SpecFile, services: &[Service]) -> Result<(), SpecError> {
    let places: HashMap<&str, usize> =
        services.iter().enumerate().map(|(i, service)| (&*service.name, i)).collect();
    let mut edges: Vec<Vec<usize>> = Vec::new();
    for service in services {
        let mut needs = Vec::new();
        for name in &service.depends_on {
            let Some(needed) = places.get(&**name) else {
                let hint = did_you_mean(name, services.iter().map(|it| &*it.name));
                let text = format!(
                    "service {:?}: depends_on {} is not declared{hint}",
                    service.name,
                    quoted(name)
                );
                return Err(file.error_at(service.location.clone(), text));
            };
            needs.push(*needed);
        }
        edges.push(needs);
    }
    let Some(cycle) = cycle(&edges) else {
        return Ok(());
    };
    let mut names: Vec<&str> = cycle.iter().map(|i| &*services[*i].name).collect();
    names.push(names[0]);
    let text = format!("circular depends_on: {}", names.join(" -> "));
    Err(file.error_at(services[cycle[0]].location.clone(), text))
}

/// A cycle of the graph, beginning with its lowest node; `None` when there is none.
fn cycle(edges: &[Vec<usize>]) -> Option<Vec<usize>> {
    // Take away what depends on nothing that is left, until nothing more goes.
    let mut left: Vec<usize> = edges.iter().map(Vec::len).collect();
    let mut needed_by = vec![Vec::new(); edges.len()];
    for (node, needs) in edges.iter().enumerate() {
        for needed in needs {
            needed_by[*needed].push(node);
        }
    }
    let mut free: Vec<usize> = (0..edges.len()).filter(|node| left[*node] == 0).collect();
    while let Some(node) = free.pop() {
        for other in &needed_by[node] {
            left[*other] -= 1;
            if left[*other] == 0 {
                free.push(*other);
            }
        }
    }
    // Each of the rest needs another of the rest: following one ends in a cycle.
    let mut node = (0..edges.len()).find(|node| left[*node] > 0)?;
    let mut path = Vec::new();
    while !path.contains(&node) {
        path.push(node);
        node = *edges[node].iter().find(|needed| left[**needed] > 0)?;
    }
    let start = path.iter().position(|it| *it == node)?;
    let mut cycle = path.split_off(start);
    let lowest = cycle.iter().enumerate().min_by_key(|(_, node)| **node)?.0;
    cycle.rotate_left(lowest);
    Some(cycle)
}

#[cfg(test)]
mod tests {
    use super::cycle;

    #[test]
    fn cycles_are_found_and_begin_with_the_first_declared() {
        assert_eq!(cycle(&[vec![], vec![0], vec![0, 1]]), None);
        assert_eq!(cycle(&[vec![0]]), Some(vec![0]));
        assert_eq!(cycle(&[vec![1], vec![2], vec![0]]), Some(vec![0, 1, 2]));
        // The first node leads into the cycle without being part of it.
        assert_eq!(cycle(&[vec![3], vec![2], vec![3], vec![1]]), Some(vec![1, 2, 3]));
    }

    #[test]
    fn a_long_chain_is_no_cycle() {
        let edges: Vec<Vec<usize>> =
            (0..100_000).map(|i: usize| i.checked_sub(1).into_iter().collect()).collect();
        assert_eq!(cycle(&edges), None);
    }
}
