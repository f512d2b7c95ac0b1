//! What a rule means, as plain cases and as properties.

use proptest::prelude::*;

use super::*;
use crate::{
    ACTION_ALLOW, ACTION_DELAY, ACTION_DENY, AtomicCounters, CHANCE_ALWAYS, Driver, FLAG_ALWAYS,
    FLAG_ANYTHING, FLAG_INCLUDE_DRIVER, FLAG_SOCKETS_ONLY, Peer, endpoint,
};

const EIO: i64 = 5;

fn rule() -> Rule {
    Rule { action: ACTION_DENY, value: -EIO, chance: CHANCE_ALWAYS, id: 3, ..Rule::default() }
}

fn call(object: Object) -> Call {
    Call { object, peer: Peer::default() }
}

fn ask(rule: &Rule, call: &Call) -> Verdict {
    ask_at(rule, call, Place::default())
}

fn ask_at(rule: &Rule, call: &Call, place: Place) -> Verdict {
    decide(rule, &rule.counters, &Site::default(), call, place)
}

fn matched(counters: &AtomicCounters) -> u64 {
    counters.matched.load(std::sync::atomic::Ordering::Relaxed)
}

fn from_driver() -> Call {
    let driver = Driver { v4: [7; 16], v6: [0; 16] };
    Call { object: Object::Socket, peer: Peer::new([7; 16], 4000, &driver) }
}

fn to_port(port: u16) -> Call {
    let mut loopback = [0; 16];
    loopback[15] = 1;
    Call { object: Object::Socket, peer: Peer::new(loopback, port, &Driver::default()) }
}

#[test]
fn what_a_runtime_wakes_itself_with_and_the_systems_files_are_not_even_counted() {
    let rule = rule();
    assert_eq!(ask(&rule, &call(Object::Ineligible)), Verdict::Pass);
    let system = Place { system: 1, ..Place::default() };
    assert_eq!(ask_at(&rule, &call(Object::File), system), Verdict::Pass);
    assert_eq!(matched(&rule.counters), 0);
}

#[test]
fn a_network_error_spares_everything_but_sockets() {
    let rule = Rule { flags: FLAG_SOCKETS_ONLY, ..rule() };
    for object in [Object::File, Object::Fifo, Object::Stdio, Object::Plain] {
        assert_eq!(ask(&rule, &call(object)), Verdict::Pass);
    }
    for object in [Object::Socket, Object::UnixSocket] {
        assert_eq!(ask(&rule, &call(object)), Verdict::Fire);
    }
}

#[test]
fn the_driver_is_spared_and_counted_unless_it_is_included() {
    let spared = rule();
    assert_eq!(ask(&spared, &from_driver()), Verdict::Exempt);
    assert_eq!(matched(&spared.counters), 0);
    assert_eq!(spared.counters.exempt.load(std::sync::atomic::Ordering::Relaxed), 1);
    let included = Rule { flags: FLAG_INCLUDE_DRIVER, ..rule() };
    assert_eq!(ask(&included, &from_driver()), Verdict::Fire);
}

#[test]
fn a_site_with_ports_is_about_those_ports_only() {
    let rule = rule();
    let mut site = Site { peer_count: 2, ..Site::default() };
    (site.peers[0], site.peers[1]) = (endpoint([0; 16], 5432), endpoint([0; 16], 6379));
    let ask = |call: &Call| decide(&rule, &rule.counters, &site, call, Place::default());
    assert_eq!(ask(&to_port(5432)), Verdict::Fire);
    assert_eq!(ask(&to_port(6379)), Verdict::Fire);
    assert_eq!(ask(&to_port(80)), Verdict::Pass);
    assert_eq!(ask(&to_port(0)), Verdict::Pass, "unused ports are nobody's");
    assert_eq!(ask(&call(Object::File)), Verdict::Pass);
}

#[test]
fn a_site_with_a_host_is_about_that_host_only() {
    let rule = rule();
    let ip = |last| [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 172, 18, 0, last];
    let mut site = Site { peer_count: 1, ..Site::default() };
    site.peers[0] = endpoint(ip(2), 5432);
    let ask = |site: &Site, peer| {
        let call = Call { object: Object::Socket, peer };
        decide(&rule, &rule.counters, site, &call, Place::default())
    };
    let driver = Driver { v4: ip(9), v6: [0; 16] };
    let at = |address, port| Peer::new(address, port, &driver);
    assert_eq!(ask(&site, at(ip(2), 5432)), Verdict::Fire);
    assert_eq!(ask(&site, at(ip(2), 80)), Verdict::Pass);
    assert_eq!(ask(&site, at(ip(3), 5432)), Verdict::Pass);
    assert_eq!(ask(&site, to_port(5432).peer), Verdict::Pass, "loopback is another host");
    site.peers[0] = endpoint([0; 16], 5432);
    assert_eq!(ask(&site, at(ip(2), 5432)), Verdict::Pass, "no host: this one's loopback");
    assert_eq!(ask(&site, to_port(5432).peer), Verdict::Fire);
}

#[test]
fn nth_after_and_max_hits_pick_their_matches() {
    let hits = |rule: Rule| -> Vec<u64> {
        let fires = |_: &u64| ask(&rule, &call(Object::File)) == Verdict::Fire;
        (1..=10).filter(fires).collect()
    };
    assert_eq!(hits(Rule { nth: 3, ..rule() }), [3]);
    assert_eq!(hits(Rule { after: 8, ..rule() }), [9, 10]);
    assert_eq!(hits(Rule { max_hits: 2, ..rule() }), [1, 2]);
    assert_eq!(hits(Rule { after: 2, max_hits: 1, ..rule() }), [3]);
}

#[test]
fn an_allow_rule_says_so_and_breaks_nothing() {
    let rule = Rule { action: ACTION_ALLOW, ..rule() };
    assert_eq!(ask(&rule, &call(Object::File)), Verdict::Allow);
    let mut outcome = Outcome::default();
    assert!(!outcome.add(&rule, Verdict::Allow));
    assert_eq!(outcome, Outcome { rule: 3, ..Outcome::default() });
}

#[test]
fn a_rule_with_a_path_is_about_files_there_only_the_systems_own_included() {
    let (rule, site) = (rule(), Site { globs: 4, ..Site::default() });
    let ask = |object, place| decide(&rule, &rule.counters, &site, &call(object), place);
    let there = Place { system: 1, globs: 6 };
    assert_eq!(ask(Object::File, there), Verdict::Fire);
    assert_eq!(ask(Object::File, Place { system: 0, globs: 3 }), Verdict::Pass);
    for object in [Object::Stdio, Object::Socket, Object::Plain] {
        assert_eq!(ask(object, there), Verdict::Pass);
    }
}

#[test]
fn the_first_denial_in_order_of_declaration_is_the_one_that_counts() {
    let (first, second) = (rule(), Rule { value: -28, id: 4, ..rule() });
    let mut outcome = Outcome::default();
    assert!(outcome.add(&first, Verdict::Fire));
    assert!(!outcome.add(&second, Verdict::Fire));
    let action = ACTION_DENY.into();
    assert_eq!(outcome, Outcome { rule: 3, value: -5, action, delay: 0 });
}

#[test]
fn delays_add_up_and_never_mask_a_denial() {
    let delay = |id, ns| Rule { action: ACTION_DELAY, value: ns, id, ..rule() };
    let mut outcome = Outcome::default();
    assert!(outcome.add(&delay(1, 30), Verdict::Fire));
    assert!(outcome.runs());
    assert!(outcome.add(&rule(), Verdict::Fire));
    assert!(outcome.add(&delay(2, 12), Verdict::Fire));
    assert!(!outcome.add(&delay(2, 12), Verdict::Spared));
    let action = ACTION_DENY.into();
    assert_eq!(outcome, Outcome { rule: 3, value: -5, action, delay: 42 });
    let mut outcome = Outcome::default();
    assert!(outcome.add(&delay(1, i64::MAX), Verdict::Fire));
    assert!(outcome.add(&delay(2, i64::MAX), Verdict::Fire));
    assert!(outcome.add(&delay(2, i64::MAX), Verdict::Fire));
    assert_eq!((outcome.delay, outcome.rule), (u64::MAX, 1));
}

proptest! {
    /// "30%" is 30 percent: over many matches, and for any stream.
    #[test]
    fn chance_is_what_it_says(stream: u64, percent in 0u64..=100) {
        let rule = Rule { stream, chance: percent * CHANCE_ALWAYS / 100, ..rule() };
        let matches = 20_000;
        let hits = (0..matches).filter(|_| ask(&rule, &call(Object::File)) != Verdict::Spared);
        let share = hits.count() as f64 / f64::from(matches);
        // Five standard deviations at most.
        prop_assert!((share - percent as f64 / 100.0).abs() < 0.018, "{share}");
    }

    /// The k-th match gets the same answer again, whatever calls it does not apply to come between.
    #[test]
    fn the_same_stream_decides_the_same(
        stream: u64,
        calls in prop::collection::vec(any::<bool>(), 1..200),
    ) {
        let half = || Rule { stream, chance: CHANCE_ALWAYS / 2, ..rule() };
        let (alone, disturbed) = (half(), half());
        for noise in calls {
            if noise {
                prop_assert_eq!(ask(&disturbed, &call(Object::Ineligible)), Verdict::Pass);
            }
            prop_assert_eq!(
                ask(&alone, &call(Object::File)),
                ask(&disturbed, &call(Object::File))
            );
        }
    }

    /// The flags that are found out in advance change no verdict and no count.
    #[test]
    fn a_rule_is_decided_as_without_the_flags_that_are_found_out_in_advance(
        flags in 0u8..4,
        chance in prop::sample::select(vec![0, 1, CHANCE_ALWAYS - 1, CHANCE_ALWAYS]),
        limits in prop::sample::select(vec![(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]),
        action in 1u8..=5,
        objects in prop::collection::vec(0u8..9, 1..50),
        aim in 0u8..4,
        system: bool,
        driver: bool,
    ) {
        let (nth, after, max_hits) = limits;
        let plain = || Rule { chance, nth, after, max_hits, action, flags, ..rule() };
        let (general, mut short) = (plain(), plain());
        if short.fires_always() {
            short.flags |= FLAG_ALWAYS;
        }
        let globs = u32::from(aim & 1);
        let mut site = Site { globs, peer_count: u32::from(aim >> 1), ..Site::default() };
        site.peers[0] = endpoint([0; 16], 80);
        if site.is_about_anything() && flags & FLAG_SOCKETS_ONLY == 0 {
            short.flags |= FLAG_ANYTHING;
        }
        let place = Place { system: system.into(), globs: 1 };
        for object in objects {
            let mut call = to_port(if object & 1 == 0 { 80 } else { 81 });
            call.object = Object::from_raw(object);
            call.peer.driver = driver.into();
            let ask = |rule: &Rule| decide(rule, &rule.counters, &site, &call, place);
            prop_assert_eq!(ask(&general), ask(&short));
        }
        let counts = |it: &AtomicCounters| {
            let of = |count: &std::sync::atomic::AtomicU64| {
                count.load(std::sync::atomic::Ordering::Relaxed)
            };
            [of(&it.matched), of(&it.exempt), of(&it.tickets)]
        };
        prop_assert_eq!(counts(&general.counters), counts(&short.counters));
    }

    /// Every call is matched, exempt or passed; never two of these, never an errno of its own.
    #[test]
    fn verdicts_and_counts_agree(
        flags in 0u8..4,
        chance in 0..=CHANCE_ALWAYS,
        nth in 0u64..5,
        after in 0u64..5,
        max_hits in 0u64..5,
        objects in prop::collection::vec(0u8..9, 1..100),
        driver: bool,
    ) {
        let rule = Rule { chance, nth, after, max_hits, flags, ..rule() };
        let (mut fired, mut applied, mut exempt) = (0, 0, 0);
        for object in objects {
            let mut call = call(Object::from_raw(object));
            call.peer.driver = u8::from(driver && call.object.is_socket());
            match ask(&rule, &call) {
                Verdict::Pass => {}
                Verdict::Exempt => exempt += 1,
                Verdict::Spared => applied += 1,
                Verdict::Fire => (fired, applied) = (fired + 1, applied + 1),
                Verdict::Allow => prop_assert!(false, "a denial never allows"),
            }
        }
        prop_assert_eq!(matched(&rule.counters), applied);
        prop_assert_eq!(
            rule.counters.exempt.load(std::sync::atomic::Ordering::Relaxed), exempt
        );
        prop_assert!(max_hits == 0 || fired <= max_hits);
        prop_assert!(nth == 0 || fired <= 1);
    }
}
