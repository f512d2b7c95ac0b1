//! The environment of a service (language.md 4.2).

use std::{
    collections::BTreeMap,
    ffi::{CString, OsString},
    os::unix::ffi::OsStringExt,
};

use super::{
    addresses::{Peer, bracketed, rewrite},
    mark,
};
use crate::spec::Service;

/// The whole environment of a program: what faultbox itself has, then where every interface of
/// the spec is, then what the service declares, then the run's mark. Later ones win. `peers` are
/// the other services.
///
/// The error names a variable that cannot be passed on.
pub(crate) fn environment(
    service: &Service,
    peers: &[Peer<'_>],
    run_mark: &str,
) -> Result<Vec<CString>, String> {
    let mut variables: BTreeMap<OsString, OsString> = std::env::vars_os().collect();
    for (name, value) in declared_environment(service, peers)? {
        variables.insert(name.into(), value.into());
    }
    // By this mark processes are found and killed where there are no cgroups.
    variables.insert(mark::VARIABLE.into(), run_mark.into());
    variables
        .into_iter()
        .map(|(name, value)| {
            let shown = name.to_string_lossy().into_owned();
            let mut entry = name.into_vec();
            entry.push(b'=');
            entry.extend(value.into_vec());
            CString::new(entry).map_err(|_| format!("env {shown:?} contains a zero byte"))
        })
        .collect()
}

/// What the spec adds to the environment of a service: where every interface is, then what the
/// service declares, with the addresses of others as it sees them.
pub(crate) fn declared_environment(
    service: &Service,
    peers: &[Peer<'_>],
) -> Result<Vec<(String, String)>, String> {
    let mut variables = BTreeMap::from([("FAULTBOX".to_owned(), "1".to_owned())]);
    let own = Peer { service, host: Some("localhost".to_owned()) };
    for Peer { service: peer, host } in peers.iter().chain([&own]) {
        let Some(host) = host else { continue };
        for interface in &peer.interfaces {
            let prefix = format!("FAULTBOX_{}_{}", shout(&peer.name), shout(&interface.name));
            let port = interface.port;
            variables.insert(format!("{prefix}_HOST"), host.clone());
            variables.insert(format!("{prefix}_PORT"), port.to_string());
            variables.insert(format!("{prefix}_ADDR"), format!("{}:{port}", bracketed(host)));
        }
    }
    let own_ports: Vec<u16> = service.interfaces.iter().map(|it| it.port).collect();
    for (name, value) in &service.env {
        let seen = rewrite(value, &own_ports, peers);
        let seen = seen.map_err(|why| format!("env {name:?}: {why}"))?;
        variables.insert(name.clone(), seen);
    }
    Ok(variables.into_iter().collect())
}

/// Upper case, and an underscore for whatever is neither a letter nor a digit.
fn shout(name: &str) -> String {
    let loud = |it: char| {
        if it.is_ascii_alphanumeric() { it.to_ascii_uppercase() } else { '_' }
    };
    name.chars().map(loud).collect()
}

#[cfg(test)]
mod tests {
    use super::{super::declared, *};

    #[test]
    fn every_service_learns_where_every_interface_is_and_its_own_words_win() {
        let db = declared("my-db", &[("main", 5432)]);
        let mut api = declared("api", &[("public.v2", 8080)]);
        api.env = vec![
            ("PORT".to_owned(), "8080".to_owned()),
            ("FAULTBOX_MY_DB_MAIN_HOST".to_owned(), "elsewhere".to_owned()),
        ];
        let peers = [Peer { service: &db, host: Some("localhost".to_owned()) }];
        let found = environment(&api, &peers, "0123-7").unwrap();
        let has = |entry: &str| found.iter().any(|it| it.to_bytes() == entry.as_bytes());
        assert!(has("FAULTBOX=1"));
        assert!(has("FAULTBOX_RUN=0123-7"));
        assert!(has("FAULTBOX_MY_DB_MAIN_PORT=5432"));
        assert!(has("FAULTBOX_MY_DB_MAIN_ADDR=localhost:5432"));
        assert!(has("FAULTBOX_API_PUBLIC_V2_ADDR=localhost:8080"));
        assert!(has("FAULTBOX_MY_DB_MAIN_HOST=elsewhere"));
        assert!(!has("FAULTBOX_MY_DB_MAIN_HOST=localhost"));
        assert!(has("PORT=8080"));
        assert!(found.iter().any(|it| it.to_bytes().starts_with(b"PATH=")));
    }

    #[test]
    fn a_zero_byte_is_named() {
        let mut db = declared("db", &[("main", 1)]);
        db.env = vec![("A".to_owned(), "x\0y".to_owned())];
        let error = environment(&db, &[], "m").unwrap_err();
        assert_eq!(error, r#"env "A" contains a zero byte"#);
    }
}
