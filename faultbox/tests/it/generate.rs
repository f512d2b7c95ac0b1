//! `faultbox generate` (language.md 1.17).

use std::{fs, path::Path};

use super::project::{Finished, Place, finish, not_tested, root, share_machine};

/// Runs it in the place's directory.
fn generate(place: &Place, arguments: &[&str]) -> Finished {
    let _shared = share_machine();
    let mut all = vec!["generate"];
    all.extend(arguments);
    let mut command = place.faultbox(&all);
    command.current_dir(&place.path);
    finish(command)
}

fn check(place: &Place, file: &str) -> Finished {
    let _shared = share_machine();
    let mut command = place.faultbox(&["check", file]);
    command.current_dir(&place.path);
    finish(command)
}

fn scenario_test(place: &Place) {
    let source = fs::read_to_string(root().join("specs/domain/scenario-test.star")).unwrap();
    place.spec("scenario-test.star", &source.replace("BIN = \"bin\"", "BIN = \"{bin}\""));
}

fn text(place: &Place, file: &str) -> String {
    fs::read_to_string(place.path.join(file)).unwrap()
}

/// The listing of 1.17.
const ORDER_FLOW: &str = r#"# order_flow.faults.star (generated)
load("scenario-test.star", "api", "db", "order_flow")

# --- Fault Assumptions ---

# network faults
db_down = fault_assumption("db_down",
    target = api,
    connect = deny("ECONNREFUSED"),
)

db_slow = fault_assumption("db_slow",
    target = api,
    connect = delay("5s"),
)

db_connection_reset = fault_assumption("db_connection_reset",
    target = api,
    read = deny("ECONNRESET"),
)

# disk faults
disk_io_error = fault_assumption("disk_io_error",
    target = db,
    write = deny("EIO"),
)

disk_full = fault_assumption("disk_full",
    target = db,
    write = deny("ENOSPC"),
)

fsync_failure = fault_assumption("fsync_failure",
    target = db,
    fsync = deny("EIO"),
)

# --- Fault Matrix ---

fault_matrix(
    scenarios = [order_flow],
    faults = [db_down, db_slow, db_connection_reset, disk_io_error, disk_full, fsync_failure],
)

# --- Network Partitions ---

def test_order_flow_db_partition():
    """order_flow with network partition between api and db."""
    partition(api, db, run=order_flow)
"#;

#[test]
fn a25_the_file_is_byte_for_byte_that_of_the_contract_and_loads() {
    let place = Place::new();
    scenario_test(&place);
    let run = generate(&place, &["scenario-test.star"]).expect(0);
    assert_eq!((&*run.stdout, &*run.stderr), ("wrote order_flow.faults.star\n", ""));
    assert_eq!(text(&place, "order_flow.faults.star"), ORDER_FLOW);
    // Again, over what is there.
    generate(&place, &["scenario-test.star"]).expect(0);
    assert_eq!(text(&place, "order_flow.faults.star"), ORDER_FLOW);
    let check = check(&place, "order_flow.faults.star").expect(0);
    check.prints("order_flow.faults.star: ok (2 services, ");
    check.says("note: 1 test declared in scenario-test.star not run\n");
}

#[test]
fn a25_the_example_is_what_would_be_generated() {
    let example = fs::read_to_string(root().join("specs/domain/order_flow.faults.star")).unwrap();
    assert_eq!(example, ORDER_FLOW);
}

#[test]
fn a25_a_dry_run_counts_and_writes_nothing() {
    let place = Place::new();
    scenario_test(&place);
    let run = generate(&place, &["scenario-test.star", "--dry-run"]).expect(0);
    assert_eq!(
        run.stdout,
        "  order_flow × api: 4 mutations\n  order_flow × db: 3 mutations\n  Total: 7 mutations\n"
    );
    let files: Vec<_> =
        fs::read_dir(&place.path).unwrap().map(|it| it.unwrap().file_name()).collect();
    assert_eq!(files, ["scenario-test.star"]);
}

#[test]
fn filters_leave_names_as_they_are_and_what_is_empty_out() {
    let place = Place::new();
    scenario_test(&place);
    let of = |flags: &[&str]| {
        let mut arguments = vec!["scenario-test.star"];
        arguments.extend(flags);
        generate(&place, &arguments).expect(0);
        text(&place, "order_flow.faults.star")
    };
    let disk = of(&["--category", "disk"]);
    assert!(disk.starts_with(
        "# order_flow.faults.star (generated)\nload(\"scenario-test.star\", \"db\", \
         \"order_flow\")\n\n# --- Fault Assumptions ---\n\n# disk faults\ndisk_io_error = "
    ));
    assert!(
        disk.ends_with("    faults = [disk_io_error, disk_full, fsync_failure],\n)\n"),
        "{disk}"
    );
    let network = of(&["--category=network"]);
    assert!(network.contains("    faults = [db_down, db_slow, db_connection_reset],\n)\n"));
    assert!(network.contains("partition(api, db, run=order_flow)") && !network.contains("disk"));
    assert_eq!(of(&["--service", "db"]), disk);
    assert_eq!(of(&["--service", "api"]), network);
    assert_eq!(of(&["--scenario", "order_flow"]), ORDER_FLOW);
    let rows = generate(&place, &["scenario-test.star", "--dry-run", "--service", "db"]).expect(0);
    assert_eq!(rows.stdout, "  order_flow × db: 3 mutations\n  Total: 3 mutations\n");
    for (flags, text) in [
        (
            &["--scenario", "oder_flow"][..],
            "no scenario is called \"oder_flow\"; did you mean: order_flow?",
        ),
        (&["--service", "bd"], "no service is called \"bd\"; did you mean: db?"),
        (&["--service", "db", "--category", "network"], "nothing to generate for this --service"),
        (&["--category", "some"], "invalid value 'some' for '--category"),
    ] {
        let mut arguments = vec!["scenario-test.star"];
        arguments.extend(flags);
        generate(&place, &arguments).expect(1).says(text);
    }
}

#[test]
fn one_output_has_all_scenarios_and_finds_the_spec_from_where_it_is() {
    let place = Place::new();
    fs::create_dir_all(place.path.join("specs/more")).unwrap();
    fs::create_dir(place.path.join("out")).unwrap();
    scenario_test(&place);
    let source = text(&place, "scenario-test.star");
    let source = format!(
        "{source}\ndef health_check():\n    api.get(path = \"/health\")\nscenario(health_check)\n"
    );
    place.spec("specs/more/two.star", &source);

    let run = generate(&place, &["specs/more/two.star", "--output", "out/all.star"]).expect(0);
    assert_eq!(run.stdout, "wrote out/all.star (14 mutations)\n");
    let all = text(&place, "out/all.star");
    assert!(all.starts_with(
        "# all.star (generated)\nload(\"../specs/more/two.star\", \"api\", \"db\", \
         \"health_check\", \"order_flow\")\n"
    ));
    assert!(all.contains("    scenarios = [order_flow, health_check],\n"));
    let (one, two) =
        ("def test_order_flow_db_partition():", "def test_health_check_db_partition():");
    assert!(all.find(one).unwrap() < all.find(two).unwrap());
    check(&place, "out/all.star").expect(0);

    let run = generate(&place, &["./specs/more/two.star"]).expect(0);
    assert_eq!(run.stdout, "wrote order_flow.faults.star\nwrote health_check.faults.star\n");
    assert!(
        text(&place, "health_check.faults.star").contains("load(\"specs/more/two.star\", \"api\"")
    );
    check(&place, "health_check.faults.star").expect(0);

    let rows = generate(&place, &["specs/more/two.star", "--dry-run"]).expect(0);
    rows.prints("  order_flow × db: 3 mutations\n  health_check × api: 4 mutations\n");
    rows.prints("  Total: 14 mutations\n");
}

#[test]
fn sources_are_never_overwritten() {
    let place = Place::new();
    scenario_test(&place);
    let before = text(&place, "scenario-test.star");
    place.spec(
        "more.star",
        "load(\"scenario-test.star\", \"api\", \"db\", \"order_flow\")\nscenario(order_flow)\n",
    );
    for spec in ["scenario-test.star", "more.star"] {
        let run = generate(&place, &[spec, "--output", "./scenario-test.star"]).expect(1);
        run.says("which is a source");
    }
    assert_eq!(text(&place, "scenario-test.star"), before);
    generate(&place, &["scenario-test.star", "--output", "no/such/dir.star"])
        .expect(1)
        .says("error: ");
}

/// Three services behind one, and two of them behind another as well.
const MESH: &str = r#"
def store(name, port):
    return service(name, "{bin}/mock-db", interface("main", "tcp", port),
        env = {"PORT": str(port)}, healthcheck = tcp("localhost:%d" % port))
db = store("db", 5432)
cache_svc = store("cache", 6379)
queue = store("job-queue", 5672)
gw = service("gw", "{bin}/line-gateway", interface("main", "tcp", 7000),
    args = ["bash", "-c", "read -r port; exec 3<>/dev/tcp/localhost/$port && echo PING >&3 && read -r line <&3 && echo $line"],
    env = {"CACHE": "redis://" + cache_svc.main.addr, "QUEUE": "amqp://job-queue:5672/x", "TEXT": "dbx db:1"},
    depends_on = [db], healthcheck = tcp("localhost:7000"))
worker = service("worker", "{bin}/line-gateway", interface("main", "tcp", 7001),
    args = ["cat"], env = {"PORT": "7001"}, depends_on = ["db"], healthcheck = tcp("localhost:7001"))
def ask():
    return (gw.send(data = "5432"), gw.send(data = "6379"), gw.send(data = "5672"))
scenario(ask)
"#;

#[test]
fn each_of_several_dependencies_has_its_own_names_and_rules() {
    let place = Place::new();
    place.spec("mesh.star", MESH);
    generate(&place, &["mesh.star"]).expect(0);
    let file = text(&place, "ask.faults.star");
    assert!(file.contains(
        "load(\"mesh.star\", \"ask\", \"cache_svc\", \"db\", \"gw\", \"queue\", \"worker\")\n"
    ));
    // Two services depend on db, one on each of the others; gw has several dependencies.
    for rule in [
        "gw_db_down = fault_assumption(\"gw_db_down\",\n    target = gw,\n    connect = deny(\"ECONNREFUSED\", to=db),\n)\n",
        "worker_db_down = fault_assumption(\"worker_db_down\",\n    target = worker,\n    connect = deny(\"ECONNREFUSED\"),\n)\n",
        "cache_slow = fault_assumption(\"cache_slow\",\n    target = gw,\n    connect = delay(\"5s\", to=cache_svc),\n)\n",
        "job_queue_connection_reset = fault_assumption(\"job_queue_connection_reset\",\n    target = gw,\n    read = deny(\"ECONNRESET\", to=queue),\n)\n",
        "cache_disk_full = fault_assumption(\"cache_disk_full\",\n    target = cache_svc,\n    write = deny(\"ENOSPC\"),\n)\n",
        "def test_ask_gw_db_partition():\n    \"\"\"ask with network partition between gw and db.\"\"\"\n    partition(gw, db, run=ask)\n",
        "def test_ask_job_queue_partition():\n    \"\"\"ask with network partition between gw and job-queue.\"\"\"\n    partition(gw, queue, run=ask)\n",
    ] {
        assert!(file.contains(rule), "{rule}\nis not in\n{file}");
    }
    // depends_on comes first, then env, in the order of declarations; each disk once.
    assert!(
        file.contains(
            "    faults = [gw_db_down, gw_db_slow, gw_db_connection_reset, \
         worker_db_down, worker_db_slow, worker_db_connection_reset, \
         cache_down, cache_slow, cache_connection_reset, \
         job_queue_down, job_queue_slow, job_queue_connection_reset, \
         db_disk_io_error, db_disk_full, db_fsync_failure, \
         cache_disk_io_error, cache_disk_full, cache_fsync_failure, \
         job_queue_disk_io_error, job_queue_disk_full, job_queue_fsync_failure],\n"
        ),
        "{file}"
    );
    check(&place, "ask.faults.star").expect(0);
    let rows = generate(&place, &["mesh.star", "--dry-run"]).expect(0);
    assert_eq!(
        rows.stdout,
        "  ask × gw: 12 mutations\n  ask × db: 3 mutations\n  ask × worker: 4 mutations\n  \
         ask × cache: 3 mutations\n  ask × job-queue: 3 mutations\n  Total: 25 mutations\n"
    );
}

#[test]
fn names_that_the_spec_has_already_are_not_taken() {
    let place = Place::new();
    scenario_test(&place);
    let source = text(&place, "scenario-test.star");
    let source = source.replace("order_flow", "disk_full");
    place.spec("taken.star", &source);
    generate(&place, &["taken.star"]).expect(0);
    let file = text(&place, "disk_full.faults.star");
    assert!(
        file.contains("disk_full_2 = fault_assumption(\"disk_full_2\",\n    target = db,\n"),
        "{file}"
    );
    check(&place, "disk_full.faults.star").expect(0);
}

#[test]
fn what_nothing_can_be_generated_from_is_said() {
    let place = Place::new();
    let db = "service(\"db\", \"bin/x\", interface(\"main\", \"tcp\", 1))\n";
    let api = "api = service(\"api\", \"bin/y\", interface(\"main\", \"tcp\", 2), depends_on = [\"db\"])\n";
    for (source, text) in [
        (format!("db = {db}"), "no scenario() functions found — nothing to generate\n  hint: "),
        (format!("db = {db}def f(): pass\nscenario(f)\n"), "no service depends on another"),
        (
            format!("{db}{api}def f(): pass\nscenario(f)\n"),
            "service \"db\" cannot be loaded from the spec: it is no global of it; write db = ",
        ),
        (
            format!("db = {db}{api}def _f(): pass\nscenario(_f)\n"),
            "scenario _f cannot be loaded from ",
        ),
        ("x = \n".to_owned(), "spec.star:1:"),
    ] {
        place.spec("spec.star", &source);
        let run = generate(&place, &["spec.star"]).expect(1);
        run.says(text);
        assert_eq!(run.stdout, "");
    }
    generate(&place, &[]).expect(1).says("Usage: faultbox generate");
}

/// The assumptions of a generated file are called, one by one, through functions that stand in for
/// the builtins, so that each rule's hits can be told apart.
#[test]
fn faults_of_different_dependencies_hit_different_peers() {
    if !Path::new("/bin/bash").exists() {
        return not_tested("a client of several services: no bash here");
    }
    let place = Place::new();
    place.spec("mesh.star", MESH);
    generate(&place, &["mesh.star"]).expect(0);
    let generated = text(&place, "ask.faults.star");
    let source = format!(
        r#"
def fault_assumption(name, target, **rules):
    return lambda fn: fault(target, run = fn, **rules)
def fault_matrix(scenarios, faults):
    pass
def partition(a, b, run):
    run()
{generated}
def broken(assumption, position):
    def scenario():
        answers = ask()
        for i in range(3):
            assert_eq(answers[i] == "OK PONG", i != position, answers[i])
    assumption(scenario)
def test_all_up(): assert_eq(ask(), ("OK PONG", "OK PONG", "OK PONG"))
def test_db_down(): broken(gw_db_down, 0)
def test_cache_down(): broken(cache_down, 1)
def test_queue_reset(): broken(job_queue_connection_reset, 2)
def test_cache_disk(): broken(cache_disk_io_error, 1)
"#
    );
    let spec = place.spec("spec.star", &source);
    let run = place.test(&[&spec]);
    for (test, rule) in [
        ("test_all_up", None),
        ("test_db_down", Some("connect=deny(ECONNREFUSED) → filter:[connect] to=db")),
        ("test_cache_down", Some("connect=deny(ECONNREFUSED) → filter:[connect] to=cache")),
        (
            "test_queue_reset",
            Some("read=deny(ECONNRESET) → filter:[read,readv,pread64] to=job-queue"),
        ),
        ("test_cache_disk", Some("fault rule on cache: write=deny(EIO)")),
    ] {
        let block = run.block(test);
        assert!(block[0].contains("PASS"), "{test}:\n{}\n{}", run.stdout, run.stderr);
        let has = |rule: &str| block.iter().any(|line| line.contains(rule));
        assert!(rule.is_none_or(has), "{test}:\n{}", run.stdout);
        assert!(!has("WARNING"), "{test}:\n{}", run.stdout);
    }
}
