//! First specs: for one program, or for what a compose file starts (language.md 2.8).

mod compose;
mod image;
mod naming;
mod project;
mod starter;
mod yaml;

pub(crate) use compose::Project;
pub(crate) use naming::service_name;
pub(crate) use project::project_spec;
pub(crate) use starter::{Starter, starter_spec};
