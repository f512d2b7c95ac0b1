//! Steps and what they return.

use super::{DB, Recorder, call, call_with, indented, reason, run, statement_error, test};
use crate::spec::FailureKind;

const API: &str = "api = service(\"api\", \"x\", interface(\"public\", \"http\", 8080))\n";

/// Runs lines as a test with `api` declared; the host answers with the body.
fn with_body(body: Option<&str>, lines: &str) -> (Result<Option<String>, String>, Vec<String>) {
    let lines = indented(lines);
    let host = Recorder { body: body.map(str::to_owned), ..Recorder::default() };
    let (result, calls) = call_with(&format!("{API}def test_x():\n{lines}"), host);
    (result.map_err(|failure| failure.reason), calls)
}

fn value(body: Option<&str>, expression: &str) -> String {
    let (result, _) = with_body(body, &format!("return repr({expression})"));
    let quoted = result.unwrap().unwrap();
    // The repr of a repr: undo one.
    quoted[1..quoted.len() - 1].replace("\\\"", "\"").replace("\\\\", "\\")
}

#[test]
fn send_returns_the_line_as_a_string() {
    let (result, calls) = run("return db.main.send(data = \"SET a b\") + \"!\"");
    assert_eq!(result, Ok(Some("\"PONG!\"".to_owned())));
    assert_eq!(calls, ["db.main send \"SET a b\""]);
}

#[test]
fn a_service_with_one_interface_lends_its_steps() {
    let (result, calls) = run("db.send(data = \"PING\")\ngetattr(db, \"send\")(data = \"x\")");
    assert_eq!(result, Ok(None));
    assert_eq!(calls, ["db.main send \"PING\"", "db.main send \"x\""]);
}

#[test]
fn http_steps_carry_their_arguments() {
    let (result, calls) = with_body(
        Some("ok"),
        "api.get()\napi.public.post(path = \"/data/k\", body = \"v\", headers = {\"B\": \"1\", \"A\": \"2\"})\n\
         api.put(path = \"/x?y=1\")\napi.delete()\napi.patch(body = \"p\")",
    );
    assert_eq!(result, Ok(None));
    assert_eq!(
        calls,
        [
            "api.public GET / \"\" []",
            "api.public POST /data/k \"v\" [(\"B\", \"1\"), (\"A\", \"2\")]",
            "api.public PUT /x?y=1 \"\" []",
            "api.public DELETE / \"\" []",
            "api.public PATCH / \"p\" []",
        ]
    );
}

#[test]
fn a_response_has_its_attributes() {
    let fields = "[r.status, r.status_code, r.ok, r.body, r.error, r.duration_ms, r.headers]";
    let read = |body| value(body, &format!("(lambda r: {fields})(api.get())"));
    assert_eq!(
        read(Some("hi")),
        r#"[200, 200, True, "hi", "", 8, {"content-type": "text/plain"}]"#
    );
    assert_eq!(
        read(None),
        r#"[0, 0, False, "", "connection refused", 8, {"content-type": "text/plain"}]"#
    );
}

#[test]
fn data_is_the_json_of_the_body_or_the_body() {
    for (body, data) in [
        (r#"{"a": [1, 2.5, true, null, "x"]}"#, r#"{"a": [1, 2.5, True, None, "x"]}"#),
        ("[]", "[]"),
        ("7", "7"),
        ("18446744073709551615", "18446744073709551615"),
        ("NOT_FOUND", r#""NOT_FOUND""#),
        ("", r#""""#),
        ("{\"a\": 1", r#""{\"a\": 1""#),
    ] {
        assert_eq!(value(Some(body), "api.get().data"), data, "{body}");
    }
    // Deeper than any JSON that is meant; it stays text.
    let deep = "[".repeat(100_000);
    assert_eq!(value(Some(&deep), "type(api.get().data)"), "\"string\"");
}

#[test]
fn a_response_is_true_when_there_was_an_answer() {
    assert_eq!(value(Some("x"), "bool(api.get())"), "True");
    assert_eq!(value(None, "bool(api.get())"), "False");
}

#[test]
fn a_response_shows_itself() {
    assert_eq!(
        value(Some("a\nb"), "api.get()"),
        r#"response(status=200, body="a\nb", duration_ms=8)"#
    );
    let (result, _) = with_body(None, "assert_eq(api.get(), 1)");
    let reason = "assert_eq: response(status=0, body=\"\", duration_ms=8) != 1";
    assert_eq!(result, Err(reason.to_owned()));
    let (result, _) = with_body(None, "api.get().statos");
    assert!(result.unwrap_err().contains("no attribute `statos`"));
}

#[test]
fn step_arguments_are_checked() {
    let data = "db.main.send(): data= is required, as in send(data=\"PING\")";
    assert_eq!(reason("db.main.send()"), data);
    assert_eq!(reason("db.send(data = None)"), data);
    assert_eq!(
        reason("db.main.send(\"PING\")"),
        "db.main.send(): arguments need their names, as in send(data=\"PING\")"
    );
    assert_eq!(reason("db.main.send(data = 1)"), "db.main.send(): data= must be a string, got int");
    assert_eq!(
        reason("db.main.send(data = \"x\", dta = 1)"),
        "db.main.send(): unknown keyword \"dta\"; valid: data"
    );
    for (arguments, text) in [
        ("\"/\"", "arguments need their names, as in get(path=\"/\")"),
        ("path = \"health\"", "path= must begin with / and have no blanks (write %20)"),
        ("path = \"/a b\"", "path= must begin with / and have no blanks (write %20)"),
        ("path = \"/a\\r\\nX: y\"", "path= must begin with / and have no blanks (write %20)"),
        ("headers = []", "headers= must be a dict, got list"),
        ("headers = {\"A\": 1}", "headers[\"A\"] must be a string, got int"),
        ("headers = {\"A\": \"x\\ny\"}", "headers[\"A\"] has a line break"),
        ("headers = {\"A b\": \"x\"}", "headers=: a name has no blanks and no colon"),
        ("data = \"x\"", "unknown keyword \"data\"; valid: path, body, headers"),
    ] {
        let (result, _) = with_body(None, &format!("api.get({arguments})"));
        assert_eq!(result, Err(format!("api.public.get(): {text}")), "{arguments}");
    }
}

#[test]
fn a_missing_step_is_explained() {
    assert_eq!(
        reason("db.main.get(path = \"/\")"),
        "db.main (tcp) has no method \"get\"; available: send"
    );
    assert_eq!(
        reason("db.get(path = \"/\")"),
        "db.main (tcp) has no method \"get\"; available: send"
    );
    assert_eq!(
        reason("db.main.sned(data = \"x\")"),
        "db.main (tcp) has no method \"sned\"; available: send"
    );
    assert_eq!(reason("db.main.adr"), "db.main has no \"adr\"; did you mean: addr?");
    assert_eq!(reason("db.mian"), "service \"db\" has no \"mian\"; did you mean: main?");
    assert_eq!(reason("db.other"), "service \"db\" has no \"other\"; available: name, main, send");
    assert_eq!(
        run("return [hasattr(db, \"get\"), hasattr(db, \"send\"), hasattr(db.main, \"addr\")]").0,
        Ok(Some("[False, True, True]".to_owned()))
    );
    assert_eq!(run("return getattr(db, \"get\", 5)").0, Ok(Some("5".to_owned())));
}

#[test]
fn shorthand_needs_one_interface_or_a_default() {
    let service = |second: &str| {
        format!(
            "courier = service(\"courier\", \"x\", interface(\"public\", \"http\", 1), \
             interface(\"{second}\", \"http\", 2))\ndef test_x():\n    courier.get(path = \"/\")\n"
        )
    };
    assert_eq!(
        call(&service("internal")).0.unwrap_err().reason,
        "service \"courier\" has several interfaces (public, internal); \
         write courier.public.get(...)"
    );
    let (result, calls) = call(&service("default"));
    assert_eq!((result, calls), (Ok(None), vec!["courier.default GET / \"\" []".to_owned()]));
}

#[test]
fn steps_outside_a_test_are_errors() {
    assert_eq!(
        statement_error(&format!("{DB}db.main.send(data = \"x\")")),
        "db.main.send(): only valid while a test is running"
    );
}

#[test]
fn a_step_that_the_host_cannot_do_fails_the_test() {
    let error = "tcp send failed: connection refused";
    let host = Recorder { error: Some(error.to_owned()), ..Recorder::default() };
    let failure = call_with(&test("db.main.send(data = \"x\")"), host).0.unwrap_err();
    assert_eq!((&*failure.reason, failure.kind), (error, FailureKind::Error));
    assert_eq!(failure.location.unwrap().to_string(), "a.star:4:5");
}
