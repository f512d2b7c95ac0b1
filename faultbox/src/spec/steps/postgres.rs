//! `query(sql=)` and `exec(sql=)`.

use crate::{
    protocol::check_connstr,
    spec::{Login, Step, Wanted, arguments::Call, failure::Raised},
};

/// How a step is called.
pub(super) fn example(name: &str) -> String {
    format!("{name}(sql=\"SELECT 1\")")
}

/// One statement or several, and as whom. The server listens on this port.
pub(super) fn statement(name: &str, port: u16, mut call: Call<'_>) -> Result<Step, Raised> {
    let wanted = if name == "exec" { Wanted::Count } else { Wanted::Rows };
    let Some(sql) = call.string("sql")?.map(str::to_owned) else {
        return Err(call.wrong(format_args!("sql= is required, as in {}", example(name))));
    };
    let login = Login {
        user: text(&mut call, "user")?,
        password: text(&mut call, "password")?,
        database: text(&mut call, "database")?,
        connstr: text(&mut call, "connstr")?,
    };
    if let Some(connstr) = &login.connstr {
        check_connstr(connstr, port)
            .map_err(|error| call.wrong(format_args!("connstr=: {error}")))?;
    }
    // The protocol ends its texts with a NUL.
    if sql.contains('\0') {
        return Err(call.wrong("sql= contains a NUL character"));
    }
    call.finish(&["sql", "user", "password", "database", "connstr"])?;
    Ok(Step::Postgres { wanted, sql, login })
}

fn text(call: &mut Call<'_>, name: &str) -> Result<Option<String>, Raised> {
    let text = call.string(name)?;
    if text.is_some_and(|it| it.contains('\0')) {
        return Err(call.wrong(format_args!("{name}= contains a NUL character")));
    }
    Ok(text.map(str::to_owned))
}
