//! Names of what is generated: identifiers, each once.

use std::collections::HashSet;

/// Names that are taken.
#[derive(Clone, Debug, Default)]
pub(super) struct Names(HashSet<String>);

impl Names {
    pub(super) fn new<'n>(taken: impl Iterator<Item = &'n str>) -> Self {
        Self(taken.map(str::to_owned).collect())
    }

    /// Takes this name or, when it is taken, the first of `name_2`, `name_3`, … that is not.
    pub(super) fn take(&mut self, name: &str) -> String {
        let mut free = name.to_owned();
        let mut number = 2;
        while !self.0.insert(free.clone()) {
            free = format!("{name}_{number}");
            number += 1;
        }
        free
    }
}

/// The name of a service as a part of an identifier.
pub(super) fn identifier(service: &str) -> String {
    service.replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_name_gets_a_number() {
        let mut names = Names::new(["db_down"].into_iter());
        let mut take = |name| names.take(name);
        assert_eq!((take("db_down"), take("db_down")), ("db_down_2".into(), "db_down_3".into()));
        assert_eq!(take("db_slow"), "db_slow");
        assert_eq!(identifier("my-db"), "my_db");
    }
}
