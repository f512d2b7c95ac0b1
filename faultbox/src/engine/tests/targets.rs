//! Whose processes are whose, which the programs remember: for as long as it is true.

use super::{
    super::{Action, Driver, Engine, Errno, Injection, Rule, RuleId, Site, Target, expand_keyword},
    Kept, in_kernel, shared_engine,
    subject::{TestCgroup, inside, result},
};

const EIO: i64 = -(libc::EIO as i64);

fn target(engine: &Engine, cgroup: &TestCgroup) -> Target {
    engine.target("subject", Some(cgroup.path()), Driver::default(), Kept::new()).unwrap()
}

fn deny_write(engine: &Engine, target: &Target) -> Injection {
    let action = Action::Deny(Errno::from_name("EIO").unwrap());
    let write = expand_keyword("write").unwrap();
    engine.inject(&[Rule::new(RuleId(1), Site::of(target.id()), write, action)]).unwrap()
}

/// What a process in the cgroup gets for writing one byte, each of three times.
fn written(cgroup: &TestCgroup) -> i64 {
    let results = inside(cgroup.path(), |out| {
        // SAFETY: plain calls on our own buffers.
        unsafe {
            let fd = libc::memfd_create(c"targets".as_ptr(), 0);
            for out in &mut out[..3] {
                *out = result(libc::write(fd, c"x".as_ptr().cast(), 1) as i64);
            }
        }
    });
    assert!(results[1] == results[0] && results[2] == results[0], "{:?}", &results[..3]);
    results[0]
}

#[test]
fn a_cgroup_is_a_targets_from_the_first_call_on_and_no_longer_than_that() {
    if !in_kernel() {
        return;
    }
    let engine = shared_engine();
    let [first, late, stranger] = ["first", "late", "stranger"].map(TestCgroup::new);
    let before = late.child("before");
    let first_target = target(&engine, &first);
    let _first_fault = deny_write(&engine, &first_target);
    // Now the programs know all of them.
    assert_eq!([&first, &late, &before, &stranger].map(written), [EIO, 1, 1, 1]);

    let late_target = target(&engine, &late);
    assert_eq!([&late, &before].map(written), [1, 1], "a target without a fault");
    let late_fault = deny_write(&engine, &late_target);
    let after = late.child("after");
    let below = after.child("below");
    assert_eq!([&late, &before, &after, &below].map(written), [EIO; 4]);
    assert_eq!([&first, &stranger].map(written), [EIO, 1]);

    // With the rule still on, the target ends.
    drop(late_target);
    assert_eq!([&late, &before, &after, &below].map(written), [1; 4]);
    assert_eq!([&first, &stranger].map(written), [EIO, 1]);
    drop(late_fault);

    // A place that was another's: of the same index, and deeper in the tree.
    let next_target = target(&engine, &below);
    let next_fault = deny_write(&engine, &next_target);
    assert_eq!([&late, &before, &after, &below].map(written), [1, 1, 1, EIO]);
    next_target.rebind(before.path()).unwrap();
    assert_eq!([&late, &before, &after, &below].map(written), [1, EIO, 1, 1]);
    drop((next_fault, next_target));
    assert_eq!([&first, &late, &before, &below, &stranger].map(written), [EIO, 1, 1, 1, 1]);
}

#[test]
fn more_cgroups_than_are_remembered_are_told_apart() {
    if !in_kernel() {
        return;
    }
    let engine = shared_engine();
    let [mine, others] = ["mine", "others"].map(TestCgroup::new);
    let target = target(&engine, &mine);
    let _fault = deny_write(&engine, &target);
    // A directory and its files have ids in a row, so that few of these share a place in the table;
    // whichever do are looked up again.
    for i in 0..24 {
        let name = format!("{i}");
        let (own, other) = (mine.child(&name), others.child(&name));
        assert_eq!([&own, &other, &own, &other].map(written), [EIO, 1, EIO, 1]);
    }
}
