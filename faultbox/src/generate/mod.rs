//! From the scenarios and dependencies of a spec to specs that break each dependency
//! (language.md 1.17).

mod edges;
mod names;
mod plan;
mod render;

pub(crate) use edges::Topology;
pub(crate) use plan::{Category, Filter, Plan};
pub(crate) use render::{literal, render, rows};
