//! Names that tests and reports are made of.

use crate::spec::{arguments::Call, failure::Raised, suggest::quoted};

/// The longest name, in characters: it becomes a column of the matrix.
const LONGEST_NAME: usize = 100;

/// Checks that a name can be part of a test's, and so be given to `--test` as one word.
pub(super) fn check_test_name(call: &Call<'_>, name: &str) -> Result<(), Raised> {
    let length = name.chars().count();
    if length > LONGEST_NAME {
        let text = format!("the name has {length} characters; at most {LONGEST_NAME} are possible");
        return Err(call.wrong(text));
    }
    if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(call.wrong(format_args!(
            "bad name {}; it is part of a test's name, so use one word, such as db_down",
            quoted(name)
        )));
    }
    Ok(())
}

/// The name of the test that is made of this one.
pub(super) fn test_name(name: &str) -> String {
    if name.starts_with("test_") { name.to_owned() } else { format!("test_{name}") }
}
