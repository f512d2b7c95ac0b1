//! The environment of a service (language.md 4.2).

use std::{
    collections::BTreeMap,
    ffi::{CString, OsString},
    os::unix::ffi::OsStringExt,
};

use super::mark;
use crate::spec::Service;

/// The whole environment of a service: what faultbox itself has, then where every interface of
/// the spec is, then what the service declares, then the run's mark. Later ones win.
///
/// The error names a variable that cannot be passed on.
pub(crate) fn environment(
    service: &Service,
    all: &[Service],
    run_mark: &str,
) -> Result<Vec<CString>, String> {
    let mut variables: BTreeMap<OsString, OsString> = std::env::vars_os().collect();
    variables.insert("FAULTBOX".into(), "1".into());
    for peer in all {
        for interface in &peer.interfaces {
            let prefix = format!("FAULTBOX_{}_{}", shout(&peer.name), shout(&interface.name));
            let port = interface.port;
            variables.insert(format!("{prefix}_HOST").into(), "localhost".into());
            variables.insert(format!("{prefix}_PORT").into(), port.to_string().into());
            variables.insert(format!("{prefix}_ADDR").into(), format!("localhost:{port}").into());
        }
    }
    for (name, value) in &service.env {
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
        let all = [db, api];
        let found = environment(&all[1], &all, "0123-7").unwrap();
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
