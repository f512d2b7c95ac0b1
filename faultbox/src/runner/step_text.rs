//! Steps as the trace names them: `main.get /cart`, `main.query SELECT 1`.

use crate::spec::{HostError, Step, StepReply};

/// How much of a command or statement is shown, in characters.
const SHOWN: usize = 60;

/// A step on its way out.
pub(super) fn sent(interface: &str, step: &Step) -> String {
    let name = step.name();
    let what = match step {
        Step::TcpSend { .. } => return format!("{interface}.{name}"),
        Step::Http { path, .. } => path.clone(),
        // The first word is the step itself, but for `command`.
        Step::Redis { name: "command", words } => short(&words.join(" ")),
        Step::Redis { words, .. } => short(&words[1.min(words.len())..].join(" ")),
        Step::Postgres { sql, .. } => short(sql),
    };
    format!("{interface}.{name} {what}").trim_end().to_owned()
}

/// What came back.
pub(super) fn received(
    interface: &str,
    step: &Step,
    reply: Result<&StepReply, &HostError>,
) -> String {
    let name = step.name();
    let outcome = match reply {
        Ok(StepReply::Line(_)) => return format!("{interface}.{name}"),
        Ok(StepReply::Response(response)) => response.status.to_string(),
        Ok(StepReply::Answer(answer)) if answer.result.is_ok() => "ok".to_owned(),
        Ok(StepReply::Answer(_)) | Err(_) => "failed".to_owned(),
    };
    format!("{interface}.{name} {outcome}")
}

/// On one line, and no longer than is worth reading.
fn short(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut shown: String = line.chars().take(SHOWN).collect();
    if shown.len() < line.len() {
        shown.push('…');
    }
    // It stands in a line of a terminal.
    shown.replace(|it: char| it.is_control(), "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::spec::{Answer, Data, HttpMethod, Login, Wanted};

    fn redis(name: &'static str, words: &[&str]) -> Step {
        Step::Redis { name, words: words.iter().map(|it| (*it).to_owned()).collect() }
    }

    fn sql(wanted: Wanted, sql: &str) -> Step {
        Step::Postgres { wanted, sql: sql.to_owned(), login: Login::default() }
    }

    #[test]
    fn a_step_is_named_with_what_it_asks_for() {
        let get = Step::Http {
            method: HttpMethod::Get,
            path: "/a b".to_owned(),
            body: "x".to_owned(),
            headers: Vec::new(),
        };
        let long = format!("SELECT '{}'", "x".repeat(100));
        let cut = format!("main.query SELECT '{}…", "x".repeat(SHOWN - 8));
        for (step, expected) in [
            (Step::TcpSend { data: "secret".to_owned() }, "main.send"),
            (get, "main.get /a b"),
            (redis("ping", &["PING"]), "main.ping"),
            (redis("get", &["GET", "cart"]), "main.get cart"),
            (redis("lrange", &["LRANGE", "queue", "0", "-1"]), "main.lrange queue 0 -1"),
            (redis("command", &["CONFIG", "GET", "x"]), "main.command CONFIG GET x"),
            (redis("set", &["SET", "a\x1b", "b\r\n"]), "main.set a\u{fffd} b"),
            (sql(Wanted::Rows, " SELECT 1\n  WHERE true "), "main.query SELECT 1 WHERE true"),
            (sql(Wanted::Count, "VACUUM"), "main.exec VACUUM"),
            (sql(Wanted::Rows, &long), &cut),
        ] {
            assert_eq!(sent("main", &step), expected);
        }
    }

    #[test]
    fn an_answer_is_ok_or_failed() {
        let step = redis("get", &["GET", "cart"]);
        let answer = |result| StepReply::Answer(Answer { result, duration: Duration::ZERO });
        assert_eq!(received("main", &step, Ok(&answer(Ok(Data::None)))), "main.get ok");
        assert_eq!(received("main", &step, Ok(&answer(Err("x".into())))), "main.get failed");
        let send = Step::TcpSend { data: String::new() };
        assert_eq!(received("main", &send, Ok(&StepReply::Line("x".into()))), "main.send");
        assert_eq!(received("main", &send, Err(&HostError("x".into()))), "main.send failed");
    }
}
