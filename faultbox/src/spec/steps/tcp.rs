//! `send(data=)`.

use crate::spec::{Step, arguments::Call, failure::Raised};

/// How it is called.
pub(super) const EXAMPLE: &str = "send(data=\"PING\")";

/// One line to send.
pub(super) fn send(mut call: Call<'_>) -> Result<Step, Raised> {
    let Some(data) = call.string("data")? else {
        return Err(call.wrong(format_args!("data= is required, as in {EXAMPLE}")));
    };
    call.finish(&["data"])?;
    Ok(Step::TcpSend { data: data.to_owned() })
}
