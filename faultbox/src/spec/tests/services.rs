//! What a file declares.

use std::time::Duration;

use super::{call, load, on_thread, run};
use crate::spec::{
    Healthcheck, Interface, Op, Protocol, Source, evaluate,
    tests::{file, host::Recorder},
};

const TESTS: &str = "def test_x():\n    pass\n";

#[test]
fn a_service_is_declared_in_full() {
    let declared = load(&format!(
        "BIN = \"bin\"\n\
         db = service(\"db\", BIN + \"/mock-db\", interface(\"main\", \"tcp\", 5432))\n\
         api = service(\"api-1\",\n    interface(\"public\", \"http\", 8080),\n    \
             interface(name = \"admin\", protocol = \"tcp\", port = 8081),\n    \
             binary = \"bin/mock-api\", args = [\"-v\"], env = {{\"Z\": \"1\", \"DB\": db.main.addr}},\n    \
             depends_on = [db, \"cache\", \"db\"], ops = {{\"log\": op(syscalls = [\"write\", \"fsync\", \"writev\"])}},\n    \
             healthcheck = http(\"localhost:8080/health\", timeout = \"1m30s\"))\n\
         service(\"cache\", \"c\", interface(\"main\", \"tcp\", 1), healthcheck = tcp(\"localhost:1\"))\n{TESTS}"
    ));
    let names: Vec<_> = declared.services.iter().map(|it| &*it.name).collect();
    assert_eq!(names, ["db", "api-1", "cache"]);
    let api = &declared.services[1];
    assert_eq!(api.source, Source::Binary("bin/mock-api".to_owned()));
    let interface =
        |name: &str, protocol, port| Interface { name: name.to_owned(), protocol, port };
    assert_eq!(
        api.interfaces,
        [interface("public", Protocol::Http, 8080), interface("admin", Protocol::Tcp, 8081)]
    );
    assert_eq!(api.args, ["-v"]);
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    assert_eq!(api.env, [pair("Z", "1"), pair("DB", "localhost:5432")]);
    assert_eq!(api.depends_on, ["db", "cache"]);
    assert_eq!(
        api.healthcheck,
        Some(Healthcheck::Http {
            url: "localhost:8080/health".to_owned(),
            timeout: Duration::from_secs(90)
        })
    );
    let [(name, Op { syscalls, path: None })] = &*api.ops else { panic!("{:?}", api.ops) };
    let calls: Vec<_> = syscalls.iter().map(|it| it.name()).collect();
    assert_eq!(
        (&**name, calls),
        ("log", vec!["write", "writev", "pwrite64", "fsync", "fdatasync"])
    );
    assert_eq!(api.location.to_string(), "a.star:3:7");
    assert_eq!(
        declared.services[2].healthcheck,
        Some(Healthcheck::Tcp {
            address: "localhost:1".to_owned(),
            timeout: Duration::from_secs(10)
        })
    );
    assert_eq!(declared.services[0].healthcheck, None);
}

#[test]
fn tests_are_found_in_byte_order() {
    let declared = load(
        "def test_b():\n    pass\ndef test_Z():\n    pass\ndef testing():\n    pass\n\
         def _test_hidden():\n    pass\ntest_a = lambda: None\ntest_c = test_b\ntest_data = {}\n\
         test_len = len\n",
    );
    let names: Vec<_> = declared.tests.iter().map(|it| &*it.name).collect();
    assert_eq!(names, ["test_Z", "test_a", "test_b", "test_c"]);
}

#[test]
fn interfaces_have_addresses() {
    let read = "[db.main.addr, db.main.host, db.main.port, db.main.internal_addr, \
                db.main.proxy_addr, db.main.name, db.main.protocol, db.name]";
    assert_eq!(
        run(&format!("return {read}")).0.unwrap().unwrap(),
        "[\"localhost:5432\", \"localhost\", 5432, \"localhost:5432\", \"localhost:5432\", \
         \"main\", \"tcp\", \"db\"]"
    );
}

#[test]
fn services_and_interfaces_are_values() {
    let lines = "d = {db: 1, (db, db.main): 2}\n\
                 return [bool(db), db == db, d[db], d[(db, db.main)], db.main == db.main, str(db), \
                 str(db.main), str(db.main.send), type(db), str(deny(\"EIO\")), str(allow())]";
    assert_eq!(
        run(lines).0.unwrap().unwrap(),
        "[True, True, 1, 2, True, \"service(\\\"db\\\")\", \"db.main\", \"db.main.send\", \
         \"service\", \"deny(\\\"EIO\\\")\", \"allow()\"]"
    );
}

#[test]
fn an_interface_can_be_called_what_a_step_is_called() {
    let (result, _) = call(
        "s = service(\"s\", \"x\", interface(\"get\", \"http\", 1))\n\
         def test_x():\n    return [s.get.addr, s.post(path = \"/\").ok]\n",
    );
    assert_eq!(result, Ok(Some("[\"localhost:1\", False]".to_owned())));
}

#[test]
fn seccomp_is_ignored_with_a_note() {
    let source =
        format!("service(\"db\", \"x\", interface(\"m\", \"tcp\", 1), seccomp = False)\n{TESTS}");
    let calls = on_thread(|| {
        let host = Recorder::default();
        evaluate(&file(&source).unwrap(), &host, |_| ()).unwrap();
        host.calls()
    });
    let note = "seccomp= is ignored; faultbox chooses by itself what serves a fault";
    assert_eq!(calls, [format!("print note: service(\"db\"): {note}")]);
}

#[test]
fn three_hundred_services_are_fine() {
    let source = (1..=300).fold("last = []\n".to_owned(), |source, i| {
        let rest = "depends_on = last)]\n";
        source + &format!("last = [service(\"s{i}\", \"x\", interface(\"m\", \"tcp\", {i}), {rest}")
    });
    assert_eq!(load(&(source + TESTS)).services.len(), 300);
}
