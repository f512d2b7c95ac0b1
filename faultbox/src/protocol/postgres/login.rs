//! Who a step says it is.

use tokio_postgres::config::{Config, Host, SslMode};

use super::{Credentials, in_full};
use crate::spec::Login;

/// How the server shows the connection in `pg_stat_activity`.
const APPLICATION: &str = "faultbox";

/// Checks the `connstr=` of a step whose interface listens on this port. Steps go to their own
/// interface: an address of another place would be passed over without a word.
pub fn check_connstr(connstr: &str, port: u16) -> Result<(), String> {
    let config = parse(connstr)?;
    let is_here = |host: &Host| match host {
        Host::Tcp(name) => matches!(&**name, "" | "localhost" | "127.0.0.1" | "::1"),
        Host::Unix(_) => false,
    };
    if !config.get_hosts().iter().all(is_here) || !config.get_hostaddrs().is_empty() {
        return Err("a step goes to its own interface; leave the host out".to_owned());
    }
    if let Some(other) = config.get_ports().iter().find(|it| **it != port) {
        return Err(format!(
            "a step goes to its own interface, on port {port}, not {other}; leave the port out"
        ));
    }
    if config.get_ssl_mode() == SslMode::Require {
        return Err("steps speak without TLS; leave sslmode= out".to_owned());
    }
    Ok(())
}

fn parse(connstr: &str) -> Result<Config, String> {
    connstr.parse().map_err(|error| in_full(&error))
}

/// What the server is told: what the step says, then what its `connstr=` says, then what the
/// environment says.
pub(super) fn config(login: &Login, credentials: &Credentials) -> Result<Config, String> {
    let mut config = login.connstr.as_deref().map(parse).transpose()?.unwrap_or_default();
    let user = login.user.as_deref().or(config.get_user()).or(credentials.user.as_deref());
    let user = user.unwrap_or("postgres").to_owned();
    let database = login.database.as_deref().or(config.get_dbname());
    let database = database.or(credentials.database.as_deref()).unwrap_or(&user).to_owned();
    config.user(user).dbname(database).ssl_mode(SslMode::Disable);
    if let Some(password) = &login.password {
        config.password(password);
    } else if config.get_password().is_none()
        && let Some(password) = &credentials.password
    {
        config.password(password);
    }
    if config.get_application_name().is_none() {
        config.application_name(APPLICATION);
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_string_for_another_place_or_with_tls_is_refused() {
        for fine in [
            "",
            "user=shop password='a b' dbname=orders",
            "postgres://shop@/orders",
            "postgresql://shop:4711@localhost:5432/orders?application_name=x",
            "host=127.0.0.1 port=5432 sslmode=disable",
        ] {
            assert_eq!(check_connstr(fine, 5432), Ok(()), "{fine}");
        }
        for (wrong, part) in [
            ("postgres://shop@db.example/orders", "leave the host out"),
            ("host=/run/postgresql", "leave the host out"),
            ("hostaddr=10.0.0.1", "leave the host out"),
            ("postgres://localhost:5433", "on port 5432, not 5433"),
            ("sslmode=require", "leave sslmode= out"),
            ("nonsense", "invalid connection string"),
            ("color=blue", "invalid connection string"),
        ] {
            let error = check_connstr(wrong, 5432).unwrap_err();
            assert!(error.contains(part), "{wrong}: {error}");
        }
    }
}
