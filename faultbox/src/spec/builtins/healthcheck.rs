//! `tcp(addr)`, `http(url)` (language.md 1.4) and `ready()` (2.3).

use std::time::Duration;

use starlark::{
    environment::GlobalsBuilder,
    eval::{Arguments, Evaluator},
    starlark_module,
    values::Value,
};

use crate::spec::{
    Healthcheck,
    arguments::Call,
    duration::parse_duration,
    failure::Raised,
    suggest::quoted,
    values::{DeclaredHealthcheck, ReadyWhen},
};

/// How long a service may take to become ready when the spec does not say.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The same for `ready()`, which is for servers that have more to do until they answer.
const READY_TIMEOUT: Duration = Duration::from_secs(30);

#[starlark_module]
pub(super) fn register(builder: &mut GlobalsBuilder) {
    /// Ready when a connection is accepted.
    fn tcp<'v>(
        arguments: &Arguments<'v, '_>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<Value<'v>> {
        let mut call = Call::new("tcp()", arguments, eval.heap())?;
        let address = required(&mut call, "addr", "tcp(\"localhost:5432\")")?;
        let timeout = timeout(&mut call, TIMEOUT)?;
        if !matches!(parse(address), Some(Address::HostAndPort)) {
            let text = format!("bad address {}; use e.g. \"localhost:5432\"", quoted(address));
            return Err(call.wrong(text).into());
        }
        call.finish(&["addr", "timeout"])?;
        let check = Healthcheck::Tcp { address: address.to_owned(), timeout };
        Ok(eval.heap().alloc(DeclaredHealthcheck(ReadyWhen::Passed(check))))
    }

    /// Ready when a GET is answered with a status from 200 to 399.
    fn http<'v>(
        arguments: &Arguments<'v, '_>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<Value<'v>> {
        let mut call = Call::new("http()", arguments, eval.heap())?;
        let url = required(&mut call, "url", "http(\"localhost:8080/health\")")?;
        let timeout = timeout(&mut call, TIMEOUT)?;
        if url.starts_with("https://") {
            return Err(call.wrong("https is not supported; use http").into());
        }
        let rest = url.strip_prefix("http://").unwrap_or(url);
        let address = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let odd = |c: char| c.is_whitespace() || c.is_control();
        if parse(address).is_none() || rest.contains("://") || url.contains(odd) {
            let text = format!("bad url {}; use e.g. \"localhost:8080/health\"", quoted(url));
            return Err(call.wrong(text).into());
        }
        call.finish(&["url", "timeout"])?;
        let check = Healthcheck::Http { url: url.to_owned(), timeout };
        Ok(eval.heap().alloc(DeclaredHealthcheck(ReadyWhen::Passed(check))))
    }

    /// Ready when the service answers in the protocol of an interface.
    fn ready<'v>(
        arguments: &Arguments<'v, '_>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<Value<'v>> {
        let mut call = Call::new("ready()", arguments, eval.heap())?;
        let timeout = timeout(&mut call, READY_TIMEOUT)?;
        let interface = call.string("interface")?.map(str::to_owned);
        call.finish(&["timeout", "interface"])?;
        let when = ReadyWhen::Answers { interface, timeout };
        Ok(eval.heap().alloc(DeclaredHealthcheck(when)))
    }
}

fn required<'v>(call: &mut Call<'v>, name: &str, example: &str) -> Result<&'v str, Raised> {
    match call.next(name)? {
        Some(value) => call.as_string(name, value),
        None => Err(call.wrong(format_args!("{name} is required, as in {example}"))),
    }
}

/// `timeout`, as next positional or keyword argument.
fn timeout(call: &mut Call<'_>, default: Duration) -> Result<Duration, Raised> {
    let Some(value) = call.next("timeout")?.filter(|value| !value.is_none()) else {
        return Ok(default);
    };
    let text = call.as_string("timeout=", value)?;
    parse_duration(text).ok_or_else(|| {
        call.wrong(format_args!("bad duration {}; use e.g. \"500ms\" or \"2s\"", quoted(text)))
    })
}

/// What an address says.
enum Address {
    /// `host`.
    Host,
    /// `host:port`.
    HostAndPort,
}

/// Checks an address; `[::1]:80` has its brackets. `None` when it is none.
fn parse(address: &str) -> Option<Address> {
    let (host, port) = match address.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            (host, if port.is_empty() { None } else { Some(port.strip_prefix(':')?) })
        }
        None => match address.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (address, None),
        },
    };
    let odd = |c: char| c.is_whitespace() || c.is_control() || "/@[]".contains(c);
    if host.is_empty() || host.contains(odd) {
        return None;
    }
    let Some(port) = port else { return Some(Address::Host) };
    // `u16::from_str` would take a sign.
    let digits = port.chars().all(|c| c.is_ascii_digit());
    let valid = digits && port.parse::<u16>().is_ok_and(|port| port > 0);
    valid.then_some(Address::HostAndPort)
}
