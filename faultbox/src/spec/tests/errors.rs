//! The texts of language.md 1.21 and the other errors of declarations.

use crate::spec::no_tests;

use super::{DB, file, load, load_error, reason, statement_error, try_load};

/// A service that is right but for what is added to it.
fn service(more: &str) -> String {
    statement_error(&format!(
        "service(\"db\", \"bin/mock-db\", interface(\"main\", \"tcp\", 5432), {more})"
    ))
}

#[test]
fn unknown_fault_keywords_are_named_with_what_was_meant() {
    assert_eq!(
        reason("fault(db, wirte = deny(\"EIO\"), run = lambda: None)"),
        "fault(): unknown keyword \"wirte\" for service \"db\"; did you mean: write? \
         (ops on db: persist)"
    );
    assert_eq!(
        reason("fault(db, persits = deny(\"EIO\"), run = lambda: None)"),
        "fault(): unknown keyword \"persits\" for service \"db\"; did you mean: persist? \
         (ops on db: persist)"
    );
    let source = "db = service(\"db\", \"x\", interface(\"main\", \"tcp\", 1))\n\
         def test_x():\n    fault_start(db, xyzzyx = deny(\"EIO\"))\n";
    assert_eq!(
        super::call(source).0.unwrap_err().reason,
        "fault_start(): unknown keyword \"xyzzyx\" for service \"db\"; use write, read, fsync, sendto, \
         recvfrom, open, a single system call, or an op"
    );
}

#[test]
fn calls_that_cannot_be_faulted_say_what_can_be_done_instead() {
    assert_eq!(
        reason("fault_start(db, exit_group = deny(\"EIO\"))"),
        "fault_start(): exit_group cannot be faulted, since no program survives that; to end a \
         service at a call use crash(), as in write=crash()"
    );
}

#[test]
fn rules_have_to_be_rules() {
    assert_eq!(
        reason("fault(db, write = \"EIO\", run = lambda: None)"),
        "fault(): write= must be deny()/delay()/allow(), got string; example: write=deny(\"EIO\")"
    );
    assert_eq!(
        reason("fault(db, run = lambda: None)"),
        "fault(): at least one rule is required, as in write=deny(\"EIO\")"
    );
}

#[test]
fn run_has_to_be_a_function_without_parameters() {
    let required = "fault(): run= (a function without parameters) is required";
    assert_eq!(reason("fault(db, write = deny(\"EIO\"))"), required);
    assert_eq!(reason("fault(db, write = deny(\"EIO\"), run = None)"), required);
    assert_eq!(
        reason("fault(db, write = deny(\"EIO\"), run = 3)"),
        "fault(): run= must be a function without parameters, got int"
    );
    assert_eq!(
        reason("def check(x):\n    pass\nfault(db, write = deny(\"EIO\"), run = check)"),
        "fault(): run= must be a function without parameters, but check has some"
    );
    assert_eq!(
        reason("fault_start(db, write = deny(\"EIO\"), run = lambda: None)"),
        "fault_start(): run= belongs to fault(); fault_stop() ends this one"
    );
}

#[test]
fn targets_have_to_be_services() {
    assert_eq!(
        reason("fault(\"db\", write = deny(\"EIO\"), run = lambda: None)"),
        "fault(): the target must be a service, got string"
    );
    assert_eq!(
        reason("fault_start(db.main, write = deny(\"EIO\"))"),
        "fault_start(): the target must be a service, got interface_ref"
    );
    assert_eq!(reason("fault_stop()"), "fault_stop(): a service is required as first argument");
    assert_eq!(reason("fault_stop(db, 1)"), "fault_stop(): one positional argument too many (int)");
}

#[test]
fn errnos_have_to_exist() {
    assert_eq!(
        statement_error("deny(\"EIOO\")"),
        "deny(): unknown errno \"EIOO\"; did you mean: EIO?"
    );
    assert_eq!(
        statement_error("deny(\"econrefused\")"),
        "deny(): unknown errno \"econrefused\"; did you mean: ECONNREFUSED?"
    );
    assert_eq!(statement_error("deny(\"\")"), "deny(): unknown errno \"\"");
    assert_eq!(statement_error("deny()"), "deny(): an errno is required, as in deny(\"EIO\")");
    assert_eq!(statement_error("deny(5)"), "deny(): errno must be a string, got int");
    assert_eq!(
        statement_error("deny(\"EIO\", \"50%\")"),
        "deny(): one positional argument too many (string)"
    );
    assert_eq!(statement_error("deny(\"EIO\", errno = \"EIO\")"), "deny(): errno is given twice");
    assert_eq!(
        statement_error("allow(label = \"x\")"),
        "allow(): unknown keyword \"label\"; it takes no arguments"
    );
}

#[test]
fn probabilities_have_to_be_in_range() {
    let hint = "use \"30%\", a float from 0.0 to 1.0, or an int from 0 to 100";
    for wrong in ["\"150%\"", "\"50\"", "\"\"", "1.5", "-0.1", "101", "-1", "10000000000000000000"]
    {
        assert_eq!(
            statement_error(&format!("deny(\"EIO\", probability = {wrong})")),
            format!("deny(): bad probability {wrong}; {hint}")
        );
    }
    assert_eq!(
        statement_error("deny(\"EIO\", probability = [1])"),
        "deny(): probability= must be a string, a float or an int, got list"
    );
    assert_eq!(
        statement_error("deny(\"EIO\", probability = True)"),
        "deny(): probability= must be a string, a float or an int, got bool"
    );
}

#[test]
fn directions_are_for_connect() {
    assert_eq!(
        statement_error("deny(\"EIO\", direction = \"up\")"),
        "deny(): direction= must be \"out\", \"in\" or \"both\", got \"up\""
    );
    assert_eq!(
        reason("fault_start(db, write = deny(\"EIO\", direction = \"in\"))"),
        "fault_start(): write=: direction= is for connect only, the one call that has a direction"
    );
}

#[test]
fn close_cannot_be_denied() {
    for effect in ["deny(\"EIO\")", "returns(0)"] {
        assert!(reason(&format!("fault_start(db, close = {effect})")).starts_with(
            "fault_start(): close=: close cannot be denied or skipped: Linux releases the"
        ),);
    }
    assert_eq!(super::run("fault_start(db, close = allow())").0, Ok(None));
}

#[test]
fn services_need_a_good_name() {
    let rule = "use letters, digits and \"_\" and \"-\", and no digit first";
    assert_eq!(
        statement_error("service(\"1db\", \"x\")"),
        format!("service(): bad name \"1db\"; {rule}")
    );
    assert_eq!(
        statement_error("service(\"\", \"x\")"),
        format!("service(): bad name \"\"; {rule}")
    );
    assert_eq!(statement_error("service(7)"), "service(): name must be a string, got int");
    assert!(statement_error("service()").starts_with("service(): name is required"));
    let error = try_load(&format!("service(\"{}\", \"x\")\n", "a".repeat(10_000))).unwrap_err();
    assert_eq!(error.text, "service(): name has 10000 characters; at most 63 are possible");
    assert!(error.to_string().len() < 400, "{error}");
    assert!(
        try_load(&format!("service(\"{}\", \"x\")\n", "a".repeat(63)))
            .unwrap_err()
            .text
            .contains("at least one interface")
    );
}

#[test]
fn services_need_one_source_and_an_interface() {
    let one = "service(\"db\"): exactly one of binary, image=, build= is required (or container=, for a \
               container that runs already)";
    assert_eq!(statement_error("service(\"db\", interface(\"m\", \"tcp\", 1))"), one);
    assert_eq!(service("binary = \"x\""), one);
    assert_eq!(service("\"other\""), one);
    assert_eq!(service("image = \"x\""), one);
    let container = |rest: &str| {
        statement_error(&format!("service(\"db\", interface(\"m\", \"tcp\", 1), {rest})"))
    };
    assert_eq!(
        container("container = \"my-db\", args = []"),
        "service(\"db\"): args= cannot be given: a container that runs is never changed"
    );
    assert_eq!(
        container("container = \"a/b/c\""),
        "service(\"db\"): bad container \"a/b/c\"; use its name or id, or \"project/service\" of Compose"
    );
    assert_eq!(
        container("image = \"x\", volumes = {\"data\": \"/data\"}"),
        "service(\"db\"): volumes=: \"data\" is no path; write \"./data\" for a directory beside this \
         file (volumes with names would carry data from one test to the next)"
    );
    assert_eq!(
        container("image = \"x\", ports = {0: 1}"),
        "service(\"db\"): ports= must be {container port: host port}, as in {8080: 18080}; 0 lets \
         Docker choose"
    );
    assert_eq!(
        statement_error("service(\"db\", \"x\")"),
        "service(\"db\"): at least one interface is required, as in interface(\"main\", \"tcp\", 5432)"
    );
    assert_eq!(
        statement_error("service(\"db\", 3)"),
        "service(\"db\"): what follows the name must be a path or interfaces, got int"
    );
    assert_eq!(
        service("interface(\"main\", \"http\", 1)"),
        "service(\"db\"): interface \"main\" declared twice"
    );
}

#[test]
fn unknown_keywords_of_a_service_list_the_valid_ones() {
    let valid = "name, binary, image, build, container, args, env, depends_on, healthcheck, ops, \
                 volumes, ports, reuse, seed, reset, seccomp";
    assert_eq!(
        service("cmd = []"),
        format!("service(\"db\"): unknown keyword \"cmd\"; valid: {valid}; use args=")
    );
    assert_eq!(
        service("entrypoint = []"),
        format!("service(\"db\"): unknown keyword \"entrypoint\"; valid: {valid}; use args=")
    );
    assert_eq!(
        service("restart = 1"),
        format!("service(\"db\"): unknown keyword \"restart\"; valid: {valid}")
    );
    assert_eq!(
        service("volumes = {}"),
        "service(\"db\"): volumes= is for containers: use image= or build="
    );
}

#[test]
fn parts_of_a_service_have_their_types() {
    assert_eq!(service("args = \"x\""), "service(\"db\"): args= must be a list, got string");
    assert_eq!(service("args = [1]"), "service(\"db\"): args[0] must be a string, got int");
    assert_eq!(service("env = []"), "service(\"db\"): env= must be a dict, got list");
    assert_eq!(
        service("env = {\"PORT\": 5432}"),
        "service(\"db\"): env[\"PORT\"] must be a string, got int"
    );
    assert_eq!(
        service("env = {1: \"x\"}"),
        "service(\"db\"): a key of env= must be a string, got int"
    );
    assert_eq!(
        service("env = {\"A=B\": \"x\"}"),
        "service(\"db\"): env=: \"A=B\" cannot be the name of a variable"
    );
    assert_eq!(
        service("args = [\"a\\x00b\"]"),
        "service(\"db\"): args[0] contains a NUL character"
    );
    assert_eq!(
        service("depends_on = [1]"),
        "service(\"db\"): an entry of depends_on= must be a service or the name of one, got int"
    );
    assert_eq!(
        service("healthcheck = \"localhost:1\""),
        "service(\"db\"): healthcheck= must be tcp(), http() or ready(), got string"
    );
    assert_eq!(
        service("ops = {\"x\": \"write\"}"),
        "service(\"db\"): ops[\"x\"] must be an op(), got string"
    );
    assert_eq!(
        service("ops = {\"write\": op([\"write\"])}"),
        "service(\"db\"): op \"write\" has the name of a system call or keyword; choose another"
    );
    assert_eq!(
        service("ops = {\"a-b\": op([\"write\"])}"),
        "service(\"db\"): bad op name \"a-b\"; use letters, digits and \"_\", and no digit first"
    );
}

#[test]
fn interfaces_have_their_types() {
    assert_eq!(
        statement_error("interface(\"main\", \"htpp\", 1)"),
        "interface(\"main\"): unknown protocol \"htpp\"; known: tcp, http, redis, postgres"
    );
    for wrong in ["0", "65536", "-1", "100000000000000000000"] {
        assert_eq!(
            statement_error(&format!("interface(\"main\", \"tcp\", {wrong})")),
            format!("interface(\"main\"): port must be from 1 to 65535, got {wrong}")
        );
    }
    for (wrong, kind) in [("\"5432\"", "string"), ("True", "bool"), ("1.0", "float")] {
        assert_eq!(
            statement_error(&format!("interface(\"main\", \"tcp\", {wrong})")),
            format!("interface(\"main\"): port must be an int, got {kind}")
        );
    }
    assert_eq!(
        statement_error("interface(\"main\", \"tcp\")"),
        "interface(\"main\"): port is required, as in interface(\"main\", \"tcp\", 5432)"
    );
    assert_eq!(
        statement_error("interface(\"a-b\", \"tcp\", 1)"),
        "interface(): bad name \"a-b\"; use letters, digits and \"_\", and no digit first"
    );
    assert_eq!(
        statement_error("interface(\"main\", \"tcp\", 1, tls = True)"),
        "interface(\"main\"): tls= is not supported by this version"
    );
    assert_eq!(
        statement_error("interface(\"main\", \"tcp\", 1, prot = 1)"),
        "interface(\"main\"): unknown keyword \"prot\"; valid: name, protocol, port, spec, tls"
    );
}

#[test]
fn healthchecks_need_an_address_and_a_duration() {
    for wrong in [
        "localhost",
        ":1",
        "localhost:",
        "localhost:0",
        "localhost:65536",
        "a b:1",
        "",
        "h:+1",
        "x:1:2",
    ] {
        assert_eq!(
            statement_error(&format!("tcp(\"{wrong}\")")),
            format!("tcp(): bad address \"{wrong}\"; use e.g. \"localhost:5432\"")
        );
    }
    for wrong in ["", "http://", "ftp://x", "localhost:x/health", "http://a b/", "/health"] {
        assert_eq!(
            statement_error(&format!("http(\"{wrong}\")")),
            format!("http(): bad url \"{wrong}\"; use e.g. \"localhost:8080/health\"")
        );
    }
    assert_eq!(statement_error("http(\"https://x\")"), "http(): https is not supported; use http");
    for wrong in ["5", "0s", "-1s", "fast"] {
        assert_eq!(
            statement_error(&format!("tcp(\"localhost:1\", timeout = \"{wrong}\")")),
            format!("tcp(): bad duration \"{wrong}\"; use e.g. \"500ms\" or \"2s\"")
        );
    }
    assert_eq!(
        statement_error("http(\"localhost:1\", timeout = 5)"),
        "http(): timeout= must be a string, got int"
    );
    assert_eq!(statement_error("tcp()"), "tcp(): addr is required, as in tcp(\"localhost:5432\")");
}

#[test]
fn ops_need_system_calls() {
    assert_eq!(
        statement_error("op(syscalls = [\"wirte\"])"),
        "op(): unknown system call \"wirte\"; did you mean: write?"
    );
    assert_eq!(
        statement_error("op(syscalls = [])"),
        "op(): syscalls= must not be empty, as in op(syscalls=[\"write\", \"fsync\"])"
    );
    assert_eq!(
        statement_error("op(syscalls = \"write\")"),
        "op(): syscalls= must be a list, got string"
    );
    assert_eq!(
        statement_error("op(syscalls = [\"write\"], file = \"x\")"),
        "op(): unknown keyword \"file\"; valid: syscalls, path"
    );
}

#[test]
fn duplicate_services_show_both_places() {
    let twice = "service(\"db\", \"x\", interface(\"m\", \"tcp\", 1))\n";
    assert_eq!(
        load_error(&format!("{twice}\n{twice}")),
        "a.star:3:1: service \"db\" declared twice (a.star:1, a.star:3)"
    );
}

#[test]
fn dependencies_have_to_be_declared_and_acyclic() {
    let service = |name: &str, needs: &str| {
        format!(
            "service(\"{name}\", \"x\", interface(\"m\", \"tcp\", 1), depends_on = [{needs}])\n"
        )
    };
    assert_eq!(
        load_error(&format!("{}{}", service("db", ""), service("api", "\"bd\""))),
        "a.star:2:1: service \"api\": depends_on \"bd\" is not declared; did you mean: db?"
    );
    let (a, b) = (service("a", "\"b\""), service("b", "\"a\""));
    assert_eq!(load_error(&format!("{a}{b}")), "a.star:1:1: circular depends_on: a -> b -> a");
    assert_eq!(load_error(&service("a", "\"a\"")), "a.star:1:1: circular depends_on: a -> a");
}

#[test]
fn tests_are_functions_without_parameters_and_declared_once() {
    assert_eq!(
        load_error("def test_x():\n    pass\ndef test_x():\n    pass\n"),
        "a.star:3:1: test \"test_x\" declared twice"
    );
    assert_eq!(
        load_error("x = 1\ndef test_x(a):\n    pass\n"),
        "a.star:2:1: test \"test_x\": a test function takes no parameters"
    );
    assert_eq!(
        load_error("test_x = lambda a = 1: None\n"),
        "a.star: test \"test_x\": a test function takes no parameters"
    );
}

#[test]
fn a_file_without_tests_loads_and_says_what_would_be_one() {
    for source in ["", "# nothing\n", "\n\n", DB, "test_data = [1]\n"] {
        assert!(load(source).tests.is_empty());
        assert_eq!(
            no_tests(&file(source).unwrap()).to_string(),
            "no tests found in a.star (define test_* functions, scenario(), fault_scenario() or \
             fault_matrix())"
        );
    }
}

#[test]
fn later_builtins_say_that_they_are_later() {
    assert_eq!(
        statement_error("load_file(\"x\", y = 1)"),
        "load_file(): not supported by this version"
    );
}

#[test]
fn errors_show_the_source_line() {
    let error = try_load("x = 1\ny = deny(\"EIOO\")\n").unwrap_err();
    assert_eq!(
        error.to_string(),
        "a.star:2:5: deny(): unknown errno \"EIOO\"; did you mean: EIO?\n  \
         y = deny(\"EIOO\")\n      ^"
    );
}
