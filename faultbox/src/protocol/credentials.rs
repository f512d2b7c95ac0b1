//! Who may use a service, as its environment says.

use crate::spec::Protocol;

/// What a server wants to be told before it answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Credentials {
    /// Who asks.
    pub user: Option<String>,
    /// How that is known.
    pub password: Option<String>,
    /// Which database is meant.
    pub database: Option<String>,
}

/// The credentials in the environment of a service that speaks this protocol; of two variables of
/// one name, the later counts, and empty ones are none.
///
/// `redis`: `REDIS_USER`, `REDIS_PASSWORD`. `postgres`: `POSTGRES_USER` (default `postgres`),
/// `POSTGRES_PASSWORD`, `POSTGRES_DB` (default: named like the user), which the images of these
/// servers take as well.
pub fn credentials(protocol: Protocol, env: &[(String, String)]) -> Credentials {
    let variable = |name: &str| {
        let last = env.iter().rev().find(|(it, _)| it == name);
        last.map(|(_, value)| value.clone()).filter(|value| !value.is_empty())
    };
    match protocol {
        Protocol::Redis => Credentials {
            user: variable("REDIS_USER"),
            password: variable("REDIS_PASSWORD"),
            database: None,
        },
        Protocol::Postgres => Credentials {
            user: Some(variable("POSTGRES_USER").unwrap_or_else(|| "postgres".to_owned())),
            password: variable("POSTGRES_PASSWORD"),
            database: variable("POSTGRES_DB"),
        },
        Protocol::Tcp | Protocol::Http => Credentials::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(protocol: Protocol, env: &[(&str, &str)]) -> [Option<String>; 3] {
        let env: Vec<_> =
            env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let Credentials { user, password, database } = credentials(protocol, &env);
        [user, password, database]
    }

    #[test]
    fn each_protocol_has_variables_of_its_own() {
        let some = |text: &str| Some(text.to_owned());
        let all = [
            ("REDIS_USER", "r"),
            ("REDIS_PASSWORD", "secret"),
            ("POSTGRES_USER", "p"),
            ("POSTGRES_PASSWORD", ""),
            ("POSTGRES_DB", "shop"),
            ("POSTGRES_DB", "orders"),
        ];
        assert_eq!(of(Protocol::Redis, &all), [some("r"), some("secret"), None]);
        assert_eq!(of(Protocol::Postgres, &all), [some("p"), None, some("orders")]);
        assert_eq!(of(Protocol::Postgres, &[]), [some("postgres"), None, None]);
        assert_eq!(of(Protocol::Redis, &[]), [None, None, None]);
        assert_eq!(of(Protocol::Tcp, &all), [None, None, None]);
    }
}
