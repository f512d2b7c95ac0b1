//! The arguments of steps, a file per protocol (language.md 1.5, 2.7).

mod http;
mod postgres;
mod redis;
mod tcp;

use super::{HttpMethod, Interface, Protocol, Step, arguments::Call, failure::Raised};

/// The step of this name, which the interface has, with its arguments.
pub(super) fn read(
    interface: &Interface,
    name: &'static str,
    mut call: Call<'_>,
) -> Result<Step, Raised> {
    if !call.rest().is_empty() {
        let example = match interface.protocol {
            Protocol::Tcp => tcp::EXAMPLE.to_owned(),
            Protocol::Http => format!("{name}(path=\"/\")"),
            Protocol::Redis => redis::example(name).to_owned(),
            Protocol::Postgres => postgres::example(name),
        };
        return Err(call.wrong(format_args!("arguments need their names, as in {example}")));
    }
    match interface.protocol {
        Protocol::Tcp => tcp::send(call),
        Protocol::Http => match HttpMethod::from_step(name) {
            Some(method) => http::request(method, call),
            None => Err(call.wrong("not a method of HTTP")),
        },
        Protocol::Redis => redis::command(name, call),
        Protocol::Postgres => postgres::statement(name, interface.port, call),
    }
}
