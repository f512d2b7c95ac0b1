//! What a file declares, checked as a whole once it is evaluated.

use std::{collections::HashMap, time::Duration};

use super::{
    Service, SpecError, SpecFile,
    suggest::{did_you_mean, quoted},
};

/// What a file declares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declarations {
    /// In the order declared. Their `depends_on` name each other without a cycle.
    pub services: Vec<Service>,
    /// In ascending byte order of their names, which are unique.
    pub tests: Vec<TestDeclaration>,
    /// What was given to `scenario()`, in the order registered.
    pub scenarios: Vec<Scenario>,
    /// In the order declared.
    pub matrices: Vec<Matrix>,
}

/// A test, to be called by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestDeclaration {
    /// `test_` included.
    pub name: String,
    /// What made it a test.
    pub kind: TestKind,
    /// How long it may take, when that was said or is fixed; else as long as ordinary tests.
    pub timeout: Option<Duration>,
    /// Whether it fails when it has rules and none of them did anything.
    pub must_fire: bool,
}

/// What makes a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TestKind {
    /// A function called `test_…`.
    Function,
    /// `scenario()`.
    Scenario,
    /// `fault_scenario()`.
    FaultScenario,
    /// A cell of a `fault_matrix()`.
    Cell {
        /// Index into [`Declarations::matrices`].
        matrix: usize,
        /// Index of its row.
        scenario: usize,
        /// Index of its column.
        fault: usize,
    },
}

impl TestKind {
    /// Whether a header says all of a test that has passed (language.md, D20).
    pub fn is_brief(self) -> bool {
        matches!(self, Self::Scenario | Self::Cell { .. })
    }
}

/// A function given to `scenario()`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scenario {
    /// The variable that it is in the root file.
    pub name: String,
}

/// A `fault_matrix()`: which scenarios run under which faults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matrix {
    /// Names of the rows, in the order written. At least one.
    pub scenarios: Vec<String>,
    /// Names of the columns, in the order written. At least one.
    pub faults: Vec<String>,
    /// Rows and columns of the cells that are no tests.
    pub excluded: Vec<(usize, usize)>,
}

impl Matrix {
    /// Whether the cell is none.
    pub fn is_excluded(&self, scenario: usize, fault: usize) -> bool {
        self.excluded.contains(&(scenario, fault))
    }
}

/// What to say of a file that is to be tested and declares no tests.
pub(crate) fn no_tests(file: &SpecFile) -> SpecError {
    SpecError::whole(format!(
        "no tests found in {} (define test_* functions, scenario(), fault_scenario() or \
         fault_matrix())",
        file.path()
    ))
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
