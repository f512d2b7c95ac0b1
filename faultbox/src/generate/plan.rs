//! What is to be generated: the mutations of each dependency, named.

use crate::spec::{did_you_mean, quoted};

use super::{
    edges::{Edge, Topology},
    names::{Names, identifier},
};

/// What kind of faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Category {
    /// Those of the connection to a dependency, and partitions.
    Network,
    /// Those of a dependency's own files.
    Disk,
    /// Both.
    All,
}

/// What of all that is wanted.
#[derive(Clone, Debug)]
pub(crate) struct Filter {
    /// Only this scenario.
    pub(crate) scenario: Option<String>,
    /// Only mutations that are counted for this service.
    pub(crate) service: Option<String>,
    /// Only mutations of this kind.
    pub(crate) category: Category,
}

/// One `fault_assumption()`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Assumption {
    /// Of the variable, and the first argument.
    pub(crate) name: String,
    /// The service whose calls fail.
    pub(crate) target: usize,
    /// The service that is named in the rule, if one is.
    pub(crate) to: Option<usize>,
    /// `connect`, `read`, `write` or `fsync`.
    pub(crate) keyword: &'static str,
    /// `deny("ECONNREFUSED")`, without the closing parenthesis.
    pub(crate) rule: &'static str,
}

/// One `partition()`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Partition {
    /// Between which services.
    pub(crate) edge: Edge,
    /// What the names of its tests have in place of the dependency.
    pub(crate) label: String,
}

/// All mutations, to be applied to each scenario.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) topology: Topology,
    /// Those that are wanted.
    pub(crate) scenarios: Vec<String>,
    pub(crate) network: Vec<Assumption>,
    pub(crate) disk: Vec<Assumption>,
    pub(crate) partitions: Vec<Partition>,
}

const NETWORK: [(&str, &str, &str); 3] = [
    ("down", "connect", "deny(\"ECONNREFUSED\""),
    ("slow", "connect", "delay(\"5s\""),
    ("connection_reset", "read", "deny(\"ECONNRESET\""),
];

const DISK: [(&str, &str, &str); 3] = [
    ("disk_io_error", "write", "deny(\"EIO\""),
    ("disk_full", "write", "deny(\"ENOSPC\""),
    ("fsync_failure", "fsync", "deny(\"EIO\""),
];

impl Plan {
    /// The mutations of a spec. Names depend on the spec alone, not on what is filtered out.
    /// The error says what to do about it when there are none.
    pub(crate) fn new(topology: Topology, filter: &Filter) -> Result<Self, String> {
        if topology.scenarios.is_empty() {
            return Err("no scenario() functions found — nothing to generate\n  hint: write what \
                        the system does as a function and register it: scenario(order_flow)"
                .to_owned());
        }
        if topology.edges.is_empty() {
            return Err(
                "no service depends on another — nothing to generate\n  hint: say so with \
                        depends_on=[db], or with an address in env={\"DB_ADDR\": db.main.addr}"
                    .to_owned(),
            );
        }
        let scenarios = choose(&topology.scenarios, filter.scenario.as_deref())?;
        let wanted = wanted_service(&topology, filter.service.as_deref())?;
        let is_wanted = |service: usize| wanted.is_none_or(|it| it == service);

        let variables = topology.services.iter().filter_map(|it| it.variable.as_deref());
        let mut names = Names::new(variables.chain(topology.scenarios.iter().map(String::as_str)));
        let (mut network, mut disk, mut partitions) = (Vec::new(), Vec::new(), Vec::new());
        for edge in &topology.edges {
            let label = label(&topology, *edge);
            let to = (topology.dependencies(edge.from) > 1).then_some(edge.to);
            for (suffix, keyword, rule) in NETWORK {
                let name = names.take(&format!("{label}_{suffix}"));
                network.push(Assumption { name, target: edge.from, to, keyword, rule });
            }
            partitions.push(Partition { edge: *edge, label });
        }
        let depended_on = topology.depended_on();
        for target in &depended_on {
            for (suffix, keyword, rule) in DISK {
                let name = match depended_on.len() {
                    1 => suffix.to_owned(),
                    _ => format!("{}_{suffix}", identifier(&topology.services[*target].name)),
                };
                let name = names.take(&name);
                disk.push(Assumption { name, target: *target, to: None, keyword, rule });
            }
        }
        network.retain(|it| filter.category != Category::Disk && is_wanted(it.target));
        partitions.retain(|it| filter.category != Category::Disk && is_wanted(it.edge.from));
        disk.retain(|it| filter.category != Category::Network && is_wanted(it.target));
        let plan = Self { topology, scenarios, network, disk, partitions };
        plan.check()?;
        Ok(plan)
    }

    /// The assumptions, in the order of the file.
    pub(crate) fn assumptions(&self) -> impl Iterator<Item = &Assumption> {
        self.network.iter().chain(&self.disk)
    }

    /// How many mutations there are for each scenario.
    pub(crate) fn mutations(&self) -> usize {
        self.assumptions().count() + self.partitions.len()
    }

    /// The services that the file names, in the order declared.
    pub(crate) fn used(&self) -> Vec<usize> {
        let targets = self.assumptions().flat_map(|it| [Some(it.target), it.to]).flatten();
        let ends = self.partitions.iter().flat_map(|it| [it.edge.from, it.edge.to]);
        let mut used: Vec<usize> = targets.chain(ends).collect();
        used.sort_unstable();
        used.dedup();
        used
    }

    /// That there is something to generate, and that it can be loaded.
    fn check(&self) -> Result<(), String> {
        if self.mutations() == 0 {
            return Err("nothing to generate for this --service and --category: network faults \
                        are those of the service that depends on another, disk faults those of \
                        the one that is depended on"
                .to_owned());
        }
        for service in self.used() {
            let node = &self.topology.services[service];
            if node.variable.is_none() {
                let (name, example) = (&node.name, identifier(&node.name));
                return Err(format!(
                    "service {name:?} cannot be loaded from the spec: it is no global of it; \
                     write {example} = service({name:?}, …), or load() it there"
                ));
            }
        }
        Ok(())
    }
}

/// What names have for a dependency: the one that is depended on, and the other one, too, where
/// several depend on it.
fn label(topology: &Topology, edge: Edge) -> String {
    let name = |service: usize| identifier(&topology.services[service].name);
    if topology.dependents(edge.to) > 1 {
        format!("{}_{}", name(edge.from), name(edge.to))
    } else {
        name(edge.to)
    }
}

fn choose(scenarios: &[String], wanted: Option<&str>) -> Result<Vec<String>, String> {
    let Some(wanted) = wanted else {
        return Ok(scenarios.to_vec());
    };
    if scenarios.iter().any(|it| it == wanted) {
        return Ok(vec![wanted.to_owned()]);
    }
    let hint = did_you_mean(wanted, scenarios.iter().map(String::as_str));
    let available = scenarios.join(", ");
    Err(format!("no scenario is called {}{hint} (available: {available})", quoted(wanted)))
}

fn wanted_service(topology: &Topology, wanted: Option<&str>) -> Result<Option<usize>, String> {
    let Some(wanted) = wanted else {
        return Ok(None);
    };
    let services = &topology.services;
    let by_name = services.iter().position(|it| it.name == wanted);
    let found =
        by_name.or_else(|| services.iter().position(|it| it.variable.as_deref() == Some(wanted)));
    found.map(Some).ok_or_else(|| {
        let hint = did_you_mean(wanted, services.iter().map(|it| &*it.name));
        let available: Vec<_> = services.iter().map(|it| &*it.name).collect();
        let available = available.join(", ");
        format!("no service is called {}{hint} (available: {available})", quoted(wanted))
    })
}
