//! Which services depend on which.

use std::collections::BTreeMap;

use crate::{
    runner::dials,
    spec::{Declarations, Service},
};

/// `from` depends on `to`: places in [`Topology::services`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Edge {
    pub(crate) from: usize,
    pub(crate) to: usize,
}

/// A service of the spec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) name: String,
    /// The global by which another file can load it, if there is one.
    pub(crate) variable: Option<String>,
}

/// The services of a spec and their dependencies.
#[derive(Clone, Debug)]
pub(crate) struct Topology {
    /// In the order declared.
    pub(crate) services: Vec<Node>,
    /// Those of `depends_on`, then those of `env`, each once.
    pub(crate) edges: Vec<Edge>,
    /// The scenarios, by name, in the order registered.
    pub(crate) scenarios: Vec<String>,
}

impl Topology {
    /// Of a spec's declarations, and of its globals that are services.
    pub(crate) fn new(declared: &Declarations, variables: &[(String, String)]) -> Self {
        let mut by_name: BTreeMap<&str, &str> = BTreeMap::new();
        for (variable, service) in variables {
            // The one that is called like the service, if there are several.
            if variable == service || !by_name.contains_key(&**service) {
                by_name.insert(service, variable);
            }
        }
        let services = declared.services.iter().map(|it| Node {
            name: it.name.clone(),
            variable: by_name.get(&*it.name).map(|it| (*it).to_owned()),
        });
        let mut scenarios: Vec<String> = Vec::new();
        for scenario in &declared.scenarios {
            if !scenarios.contains(&scenario.name) {
                scenarios.push(scenario.name.clone());
            }
        }
        Self { services: services.collect(), edges: edges(&declared.services), scenarios }
    }

    /// How many services depend on this one.
    pub(crate) fn dependents(&self, to: usize) -> usize {
        self.edges.iter().filter(|edge| edge.to == to).count()
    }

    /// How many services this one depends on.
    pub(crate) fn dependencies(&self, from: usize) -> usize {
        self.edges.iter().filter(|edge| edge.from == from).count()
    }

    /// The services that others depend on, in the order of the edges.
    pub(crate) fn depended_on(&self) -> Vec<usize> {
        let mut found = Vec::new();
        for edge in &self.edges {
            if !found.contains(&edge.to) {
                found.push(edge.to);
            }
        }
        found
    }
}

fn edges(services: &[Service]) -> Vec<Edge> {
    let mut edges: Vec<Edge> = Vec::new();
    let mut add = |from: usize, to: usize| {
        if from != to && !edges.contains(&Edge { from, to }) {
            edges.push(Edge { from, to });
        }
    };
    for (from, service) in services.iter().enumerate() {
        for name in &service.depends_on {
            if let Some(to) = services.iter().position(|it| it.name == *name) {
                add(from, to);
            }
        }
    }
    for (from, service) in services.iter().enumerate() {
        for (_, value) in &service.env {
            for (to, peer) in services.iter().enumerate() {
                if dials(value, peer) {
                    add(from, to);
                }
            }
        }
    }
    edges
}
