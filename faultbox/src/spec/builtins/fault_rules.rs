//! `KEYWORD=RULE` of `fault()` and its relatives, resolved on a target (language.md 1.9.2, 1.9.3).

use starlark::values::{Value, ValueLike};

use crate::spec::{
    FaultAction, FaultRule, RuleOptions, Service, arguments::Call, failure::Raised,
    values::RuleValue,
};

use super::keyword::{self, Covered};

/// The rules of these keywords on a service, sorted by keyword. `own` are the other keywords of the
/// call, one of which may be meant by an unknown one.
pub(super) fn resolve<'v>(
    call: &Call<'v>,
    service: &Service,
    keywords: &[(&str, Value<'v>)],
    own: &[&str],
) -> Result<Vec<FaultRule>, Raised> {
    let mut rules = Vec::new();
    for (keyword, value) in keywords {
        let covered = keyword::resolve(call.who(), service, keyword, own)?;
        let Some(half) = value.downcast_ref::<RuleValue>() else {
            let kind = value.get_type();
            return Err(call.wrong(format_args!(
                "{keyword}= must be deny()/delay()/allow(), got {kind}; \
                 example: {keyword}=deny(\"EIO\")"
            )));
        };
        rules.push(rule(call, service, keyword, covered, half)?);
    }
    rules.sort_by(|a, b| a.keyword.cmp(&b.keyword));
    Ok(rules)
}

fn rule(
    call: &Call<'_>,
    service: &Service,
    keyword: &str,
    covered: Covered,
    half: &RuleValue,
) -> Result<FaultRule, Raised> {
    let wrong = |text: &str| Err(call.wrong(format_args!("{keyword}=: {text}")));
    let RuleOptions { direction, to, .. } = &half.options;
    if direction.is_some() && !covered.covers("connect") {
        return wrong("direction= is for connect only, the one call that has a direction");
    }
    if let Some(to) = to {
        if *to == service.name {
            return wrong(&format!(
                "to={to} is the target itself; name the service that {to} dials, or fault the \
                 services that dial {to}"
            ));
        }
        if covered.path.is_some() {
            return wrong("to= is about connections, and an op with path= is about files");
        }
        if !covered.has_connections() {
            return wrong(
                "to= is for calls on connections, such as connect, read, write, sendto and \
                 recvfrom",
            );
        }
    }
    if let FaultAction::Deny(errno) = half.action
        && errno.is_network_only()
        && covered.path.is_some()
        && covered.has_transfers()
    {
        return wrong(&format!(
            "reading and writing files, which path= is about, never fails with {errno}; use e.g. \
             EIO or ENOSPC"
        ));
    }
    if half.is_eof
        && let Some(other) = covered.not_a_read()
    {
        return wrong(&format!(
            "eof() is for calls that read (read, readv, pread64, preadv, preadv2, recvfrom, \
             recvmsg), and {other} does not; to skip a call and report a value use returns()"
        ));
    }
    if matches!(half.action, FaultAction::Deny(_) | FaultAction::Return(_))
        && covered.covers("close")
    {
        return wrong(
            "close cannot be denied or skipped: Linux releases the descriptor before anything \
             can fail the call, so that the service would lose it and be told it did not; \
             deny fsync or write to fail what comes before it",
        );
    }
    Ok(FaultRule {
        keyword: keyword.to_owned(),
        is_op: covered.is_op,
        syscalls: covered.syscalls,
        path: covered.path,
        action: half.action,
        options: half.options.clone(),
    })
}
