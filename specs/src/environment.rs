//! Settings of a demo service, read from its environment.

use std::env;
use std::ffi::OsString;

/// The port in the variable `PORT`, or `default` where it is not set.
///
/// # Errors
/// A text for the user if the value is not a number from 1 to 65535.
pub fn port(default: u16) -> Result<u16, String> {
    match env::var_os("PORT") {
        None => Ok(default),
        Some(value) => parse_port(&value),
    }
}

/// The value of the variable `name`, or `default` where it is not set or not UTF-8.
pub fn text(name: &str, default: &str) -> String {
    env::var(name).unwrap_or_else(|_| default.to_owned())
}

fn parse_port(value: &OsString) -> Result<u16, String> {
    value.to_str().and_then(|text| text.parse::<u16>().ok()).filter(|port| *port != 0).ok_or_else(
        || format!("PORT must be a number from 1 to 65535, got \"{}\"", value.display()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_a_number_from_1_to_65535() {
        assert_eq!(parse_port(&"1".into()), Ok(1));
        assert_eq!(parse_port(&"65535".into()), Ok(65535));
        for bad in ["", "0", "65536", "-1", "http", " 80"] {
            let error = parse_port(&bad.into()).unwrap_err();
            assert!(error.contains("1 to 65535"), "{bad}: {error}");
        }
    }
}
