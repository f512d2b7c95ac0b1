//! The text of a generated file, and the lines of `--dry-run`. The same plan gives the same bytes.

use std::fmt::Write;

use super::{
    names::Names,
    plan::{Assumption, Plan},
};

/// The file of this name that applies the plan's mutations to these scenarios, which it loads from
/// the spec at this path.
pub(crate) fn render(plan: &Plan, scenarios: &[String], file: &str, spec: &str) -> String {
    let mut symbols: Vec<&str> = plan.used().into_iter().map(|it| variable(plan, it)).collect();
    symbols.extend(scenarios.iter().map(String::as_str));
    symbols.sort_unstable();
    symbols.dedup();
    let symbols = symbols.iter().fold(literal(spec), |list, it| list + ", " + &literal(it));
    let file = file.escape_debug();
    let mut parts = vec![format!("# {file} (generated)\nload({symbols})")];

    let assumptions: Vec<&str> = plan.assumptions().map(|it| &*it.name).collect();
    if !assumptions.is_empty() {
        parts.push("# --- Fault Assumptions ---".to_owned());
        for (title, group) in [("network", &plan.network), ("disk", &plan.disk)] {
            for (i, assumption) in group.iter().enumerate() {
                let title = if i == 0 { format!("# {title} faults\n") } else { String::new() };
                parts.push(title + &declaration(plan, assumption));
            }
        }
        parts.push("# --- Fault Matrix ---".to_owned());
        parts.push(format!(
            "fault_matrix(\n    scenarios = [{}],\n    faults = [{}],\n)",
            scenarios.join(", "),
            assumptions.join(", ")
        ));
    }
    if !plan.partitions.is_empty() {
        parts.push("# --- Network Partitions ---".to_owned());
        parts.extend(partitions(plan, scenarios));
    }
    parts.join("\n\n") + "\n"
}

fn variable(plan: &Plan, service: usize) -> &str {
    // A plan has been checked to use services with variables only.
    plan.topology.services[service].variable.as_deref().unwrap_or_default()
}

fn declaration(plan: &Plan, assumption: &Assumption) -> String {
    let Assumption { name, target, to, keyword, rule } = assumption;
    let target = variable(plan, *target);
    let to = to.map_or_else(String::new, |to| format!(", to={}", variable(plan, to)));
    format!(
        "{name} = fault_assumption(\"{name}\",\n    target = {target},\n    \
         {keyword} = {rule}{to}),\n)"
    )
}

fn partitions(plan: &Plan, scenarios: &[String]) -> Vec<String> {
    let mut names = Names::new(scenarios.iter().map(String::as_str));
    let mut tests = Vec::new();
    for scenario in scenarios {
        for partition in &plan.partitions {
            let short = scenario.strip_prefix("test_").unwrap_or(scenario);
            let test = names.take(&format!("test_{short}_{}_partition", partition.label));
            let (from, to) = (partition.edge.from, partition.edge.to);
            let services = &plan.topology.services;
            tests.push(format!(
                "def {test}():\n    \"\"\"{scenario} with network partition between {} and \
                 {}.\"\"\"\n    partition({}, {}, run={scenario})",
                services[from].name,
                services[to].name,
                variable(plan, from),
                variable(plan, to)
            ));
        }
    }
    tests
}

/// The lines of `--dry-run`: mutations by scenario and service, and all of them.
pub(crate) fn rows(plan: &Plan) -> String {
    let mut order: Vec<usize> = Vec::new();
    for edge in &plan.topology.edges {
        for service in [edge.from, edge.to] {
            if !order.contains(&service) {
                order.push(service);
            }
        }
    }
    let mut text = String::new();
    for scenario in &plan.scenarios {
        for service in &order {
            let faults = plan.assumptions().filter(|it| it.target == *service).count();
            let cuts = plan.partitions.iter().filter(|it| it.edge.from == *service).count();
            if faults + cuts > 0 {
                let name = &plan.topology.services[*service].name;
                // Writing to a string cannot fail.
                let _ = writeln!(text, "  {scenario} × {name}: {} mutations", faults + cuts);
            }
        }
    }
    let total = plan.mutations() * plan.scenarios.len();
    let _ = writeln!(text, "  Total: {total} mutations");
    text
}

/// The text as a literal of the language.
pub(crate) fn literal(text: &str) -> String {
    let mut literal = String::with_capacity(text.len() + 2);
    literal.push('"');
    for char in text.chars() {
        match char {
            '"' | '\\' => literal.extend(['\\', char]),
            '\n' => literal.push_str("\\n"),
            '\r' => literal.push_str("\\r"),
            '\t' => literal.push_str("\\t"),
            _ if char.is_ascii_control() => {
                let _ = write!(literal, "\\x{:02x}", char as u32);
            }
            _ => literal.push(char),
        }
    }
    literal.push('"');
    literal
}
