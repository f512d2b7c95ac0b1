//! The figures of one run: out of the measuring program's lines, into JSON and back, and compared with earlier ones.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

/// A figure may grow by so much of itself…
const TOLERANCE: f64 = 0.10;
/// …and by so many instructions, which is what a change of the compiler's mind can be.
const SLACK: f64 = 10.0;

/// What a row says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Figure {
    /// One system call.
    Call(Call),
    /// Instructions for something that the engine does only once.
    Once(f64),
    /// Instructions for something that it does again and again.
    Action(f64),
    /// Nanoseconds, on the host.
    Native(f64),
    /// How often something happened that should not.
    Count(f64),
    /// Could not be measured, and why.
    Skipped(String),
}

/// Guest instructions of one system call.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Call {
    /// The calling thread's; for a call that waits for another process, that one's, too.
    pub(crate) total: f64,
    /// The total less that of the same call with nothing attached; none: this is that call.
    pub(crate) added: Option<f64>,
    /// What other processes do because of it, on a processor of their own if there is one.
    pub(crate) elsewhere: f64,
    /// Slowest round less fastest, as part of the median.
    pub(crate) spread: f64,
}

/// One case.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    pub(crate) id: String,
    pub(crate) title: String,
    pub(crate) figure: Figure,
}

/// All cases of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Figures {
    date: String,
    kernel: String,
    rows: Vec<Row>,
}

impl Figures {
    /// None yet, on this day (`2026-11-21`).
    pub(crate) fn new(date: &str) -> Self {
        Self { date: date.to_owned(), ..Self::default() }
    }

    /// The day of the run.
    pub(crate) fn date(&self) -> &str {
        &self.date
    }

    /// The guest's kernel release.
    pub(crate) fn kernel(&self) -> &str {
        &self.kernel
    }

    /// In the order of the run.
    pub(crate) fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// The row of this name.
    pub(crate) fn row(&self, id: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.id == id)
    }

    /// What this case adds to a call.
    pub(crate) fn added(&self, id: &str) -> Option<f64> {
        match &self.row(id)?.figure {
            Figure::Call(call) => call.added,
            _ => None,
        }
    }

    /// Takes a line of the measuring program; lines that are none of its own are passed over.
    pub(crate) fn line(&mut self, line: &str) -> Result<()> {
        if !line.starts_with("{\"kind\":") {
            return Ok(());
        }
        let value: Value =
            serde_json::from_str(line).with_context(|| format!("not JSON: {line}"))?;
        if value["kind"] == "kernel" {
            text(&value, "release")?.clone_into(&mut self.kernel);
            return Ok(());
        }
        let figure = match text(&value, "kind")? {
            "call" => self.call(&value)?,
            "once" => Figure::Once(number(&value, "elapsed")?),
            "action" => Figure::Action(number(&value, "elapsed")?),
            "count" => Figure::Count(number(&value, "count")?),
            "skipped" => Figure::Skipped(text(&value, "why")?.to_owned()),
            other => anyhow::bail!("the measuring program speaks of `{other}`"),
        };
        self.push(text(&value, "id")?.to_owned(), text(&value, "title")?.to_owned(), figure);
        Ok(())
    }

    /// The same, of a run on the host: only what the engine does again and again.
    pub(crate) fn native_line(&mut self, line: &str) -> Result<()> {
        let value: Value =
            serde_json::from_str(line).with_context(|| format!("not JSON: {line}"))?;
        if value["kind"] == "action" {
            let id = format!("native-{}", text(&value, "id")?);
            let title = format!("natively: {}", text(&value, "title")?);
            self.push(id, title, Figure::Native(number(&value, "elapsed")?));
        }
        Ok(())
    }

    /// Says why there is nothing of the host.
    pub(crate) fn skip_native(&mut self, why: &str) {
        let figure = Figure::Skipped(why.to_owned());
        self.push("native".to_owned(), "natively: fault() on and off".to_owned(), figure);
    }

    fn push(&mut self, id: String, title: String, figure: Figure) {
        self.rows.push(Row { id, title, figure });
    }

    fn call(&self, value: &Value) -> Result<Figure> {
        let (own, elapsed) = (number(value, "own")?, number(value, "elapsed")?);
        let waits = value["waits"].as_bool().context("no `waits`")?;
        let total = if waits { elapsed } else { own };
        let added = match value["against"].as_str() {
            None => None,
            Some(id) => match self.row(id).map(|row| &row.figure) {
                Some(Figure::Call(baseline)) => Some(total - baseline.total),
                _ => anyhow::bail!("there is no figure of `{id}` to count from"),
            },
        };
        let elsewhere = elapsed - own;
        Ok(Figure::Call(Call { total, added, elsewhere, spread: number(value, "spread")? }))
    }

    /// As it is committed: whole instructions, one row a line.
    pub(crate) fn to_json(&self) -> Result<String> {
        let rows = self.rows.iter().map(|row| {
            let mut value = match &row.figure {
                Figure::Call(call) => json!({
                    "kind": "call",
                    "total": whole(call.total),
                    "added": call.added.map(whole),
                    "elsewhere": whole(call.elsewhere),
                    "spread": (call.spread * 1e5).round() / 1e5,
                }),
                Figure::Once(value) => json!({"kind": "once", "instructions": whole(*value)}),
                Figure::Action(value) => json!({"kind": "action", "instructions": whole(*value)}),
                Figure::Native(value) => json!({"kind": "native", "nanoseconds": whole(*value)}),
                Figure::Count(value) => json!({"kind": "count", "count": whole(*value)}),
                Figure::Skipped(why) => json!({"kind": "skipped", "why": why}),
            };
            value["id"] = json!(row.id);
            value["title"] = json!(row.title);
            value
        });
        let rows: Vec<String> = rows
            .map(|row| serde_json::to_string(&row).map(|row| format!("    {row}")))
            .collect::<Result<_, _>>()?;
        Ok(format!(
            "{{\n  \"date\": {},\n  \"kernel\": {},\n  \"rows\": [\n{}\n  ]\n}}\n",
            json!(self.date),
            json!(self.kernel),
            rows.join(",\n")
        ))
    }

    /// From what [`Self::to_json`] made.
    pub(crate) fn from_json(json: &str) -> Result<Self> {
        let value: Value = serde_json::from_str(json)?;
        let mut figures = Self::new(text(&value, "date")?);
        text(&value, "kernel")?.clone_into(&mut figures.kernel);
        for row in value["rows"].as_array().context("no `rows`")? {
            let figure = match text(row, "kind")? {
                "call" => Figure::Call(Call {
                    total: number(row, "total")?,
                    added: row["added"].as_f64(),
                    elsewhere: number(row, "elsewhere")?,
                    spread: number(row, "spread")?,
                }),
                "once" => Figure::Once(number(row, "instructions")?),
                "action" => Figure::Action(number(row, "instructions")?),
                "native" => Figure::Native(number(row, "nanoseconds")?),
                "count" => Figure::Count(number(row, "count")?),
                "skipped" => Figure::Skipped(text(row, "why")?.to_owned()),
                other => anyhow::bail!("a row of unknown kind `{other}`"),
            };
            figures.push(text(row, "id")?.to_owned(), text(row, "title")?.to_owned(), figure);
        }
        Ok(figures)
    }

    /// The cases without a figure, and why, one line each.
    pub(crate) fn not_measured(&self) -> impl Iterator<Item = String> {
        self.rows.iter().filter_map(|row| match &row.figure {
            Figure::Skipped(why) => Some(format!("{}: {why}", row.title)),
            _ => None,
        })
    }

    /// What has grown since, or is no longer measured: one line each. Rows that are new are not.
    pub(crate) fn worse_than(&self, before: &Self) -> Vec<String> {
        let judge = |old: &Row| {
            let was = old.figure.compared()?;
            let Some(row) = self.row(&old.id) else {
                return Some(format!("{}: no longer measured", old.title));
            };
            let is = match (&row.figure, row.figure.compared()) {
                (Figure::Skipped(why), _) => {
                    return Some(format!("{}: not measured: {why}", row.title));
                }
                (_, None) => return Some(format!("{}: no longer a figure", row.title)),
                (_, Some(is)) => is,
            };
            let grown = is - was > SLACK.max(was.abs() * TOLERANCE);
            grown.then(|| format!("{}: {was:.0} instructions before, {is:.0} now", row.title))
        };
        before.rows.iter().filter_map(judge).collect()
    }
}

impl Figure {
    /// The instructions that must not grow.
    fn compared(&self) -> Option<f64> {
        match self {
            Self::Call(call) => Some(call.added.unwrap_or(call.total)),
            Self::Action(instructions) => Some(*instructions),
            Self::Once(_) | Self::Native(_) | Self::Count(_) | Self::Skipped(_) => None,
        }
    }
}

fn whole(value: f64) -> i64 {
    value.round() as i64
}

fn text<'a>(value: &'a Value, name: &str) -> Result<&'a str> {
    value[name].as_str().with_context(|| format!("no text `{name}` in {value}"))
}

fn number(value: &Value, name: &str) -> Result<f64> {
    value[name].as_f64().with_context(|| format!("no number `{name}` in {value}"))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Two cases, the second of which adds `added` instructions.
    pub(crate) fn run_with(added: f64) -> Figures {
        let mut figures = Figures::new("2026-11-21");
        let lines = [
            json!({"kind": "kernel", "release": "6.1.192"}),
            json!({"kind": "call", "id": "nothing", "title": "nothing", "against": null, "waits": false,
                   "own": 400.0, "elapsed": 400.0, "spread": 0.0001}),
            json!({"kind": "call", "id": "deny", "title": "deny", "against": "nothing", "waits": false,
                   "own": 400.0 + added, "elapsed": 700.0 + added, "spread": 0.0002}),
            json!({"kind": "call", "id": "notify-deny", "title": "round trip", "against": "nothing",
                   "waits": true, "own": 900.0, "elapsed": 7400.0, "spread": 0.001}),
            json!({"kind": "action", "id": "switch-on", "title": "on", "elapsed": 13000.0}),
            json!({"kind": "skipped", "id": "kprobe-deny", "title": "kprobe", "why": "none here"}),
        ];
        // serde_json sorts the names; the program prints the kind first.
        for mut line in lines {
            let kind = line["kind"].take();
            let rest = line.to_string().replace("\"kind\":null,", "").replace(",\"kind\":null", "");
            figures.line(&format!("{{\"kind\":{kind},{}", &rest[1..])).unwrap();
        }
        figures
    }

    #[test]
    fn a_call_costs_its_own_instructions_and_the_others_if_it_waits_for_them() {
        let figures = run_with(150.0);
        let call = |id| match &figures.row(id).unwrap().figure {
            Figure::Call(call) => call.clone(),
            other => panic!("{other:?}"),
        };
        assert_eq!((call("deny").total, call("deny").elsewhere), (550.0, 300.0));
        assert_eq!(figures.added("deny"), Some(150.0));
        assert_eq!(figures.added("notify-deny"), Some(7000.0));
        assert_eq!((figures.added("nothing"), figures.kernel()), (None, "6.1.192"));
    }

    #[test]
    fn what_is_committed_is_read_back() {
        let figures = run_with(150.0);
        assert_eq!(Figures::from_json(&figures.to_json().unwrap()).unwrap(), figures);
    }

    #[test]
    fn a_figure_may_grow_by_a_tenth_and_by_ten_instructions_but_not_by_more() {
        let worse = |was: f64, is: f64| run_with(is).worse_than(&run_with(was));
        assert_eq!(worse(200.0, 220.0), Vec::<String>::new());
        assert_eq!(worse(200.0, 221.0), ["deny: 200 instructions before, 221 now"]);
        assert_eq!(worse(20.0, 30.0), Vec::<String>::new());
        assert_eq!(worse(20.0, 31.0), ["deny: 20 instructions before, 31 now"]);
        assert_eq!(worse(-50.0, -41.0), Vec::<String>::new());
        assert_eq!(worse(-50.0, -39.0), ["deny: -50 instructions before, -39 now"]);
        assert_eq!(worse(200.0, 100.0), Vec::<String>::new());
    }

    #[test]
    fn a_case_that_is_no_longer_measured_is_worse_and_a_new_one_is_not() {
        let before = run_with(150.0);
        let mut now = before.clone();
        now.rows.retain(|row| row.id != "switch-on");
        now.row_mut("deny").figure = Figure::Skipped("no eBPF".to_owned());
        assert_eq!(
            now.worse_than(&before),
            ["deny: not measured: no eBPF", "on: no longer measured"]
        );
        assert_eq!(before.worse_than(&Figures::new("2026-11-20")), Vec::<String>::new());
    }

    #[test]
    fn other_output_is_passed_over_and_a_broken_line_is_not() {
        let mut figures = Figures::new("2026-11-21");
        figures.line("[   12.3] a kernel message").unwrap();
        assert!(figures.rows().is_empty());
        assert!(figures.line("{\"kind\":\"call\",\"id\":").is_err());
    }

    impl Figures {
        fn row_mut(&mut self, id: &str) -> &mut Row {
            self.rows.iter_mut().find(|row| row.id == id).unwrap()
        }
    }
}
