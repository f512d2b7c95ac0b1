//! The figures as a table: for the terminal, and for SPECIFICATION.md.

use std::fmt::Write as _;

use anyhow::{Context as _, Result};

use super::{
    figures::{Figure, Figures, Row},
    limits,
};

const BEGIN: &str = "<!-- bench syscall -->\n";
const END: &str = "<!-- /bench syscall -->";
const HEAD: [&str; 6] = ["case", "total", "added", "× deny", "elsewhere", "limit"];

/// One row: case, total, added, how many times what a deny adds, done by others, limit.
fn cells(figures: &Figures, row: &Row) -> [String; 6] {
    let limit = limits::verdict(figures, &row.id);
    let whole = |value: f64| spaced(value.round() as i64);
    let [total, added, ratio, elsewhere] = match &row.figure {
        Figure::Call(call) => {
            let deny = figures.added("deny").filter(|deny| *deny >= 1.0);
            let ratio = deny.zip(call.added).map(|(deny, added)| format!("{:.1}", added / deny));
            [
                whole(call.total),
                call.added.map(whole).unwrap_or_default(),
                ratio.unwrap_or_default(),
                // Timer interrupts and the like are no work of other processes.
                if call.elsewhere < 1.0 { String::new() } else { whole(call.elsewhere) },
            ]
        }
        Figure::Once(value) | Figure::Action(value) | Figure::Count(value) => {
            [whole(*value), String::new(), String::new(), String::new()]
        }
        Figure::Native(value) => {
            [format!("{:.1} µs", value / 1000.0), String::new(), String::new(), String::new()]
        }
        Figure::Skipped(why) => {
            let why = why.replace('\n', " ").replace('|', "/");
            let limit =
                format!("{limit}{}not measured: {why}", if limit.is_empty() { "" } else { "; " });
            let none = String::new;
            return [row.title.clone(), none(), none(), none(), none(), limit];
        }
    };
    [row.title.clone(), total, added, ratio, elsewhere, limit]
}

/// 12345678 as `12 345 678`.
fn spaced(value: i64) -> String {
    let digits = value.unsigned_abs().to_string();
    let mut text = String::from(if value < 0 { "-" } else { "" });
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// For the terminal: columns, with numbers to the right.
pub(super) fn text(figures: &Figures) -> String {
    let rows: Vec<_> = std::iter::once(HEAD.map(str::to_owned))
        .chain(figures.rows().iter().map(|row| cells(figures, row)))
        .collect();
    let widths: [usize; 6] = std::array::from_fn(|column| {
        rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)
    });
    let mut text = format!(
        "Guest instructions of one system call, kernel {}, {}\n",
        figures.kernel(),
        figures.date()
    );
    for row in &rows {
        let mut line = format!("{:<1$}", row[0], widths[0]);
        for (cell, width) in row[1..5].iter().zip(&widths[1..5]) {
            let _ = write!(line, "  {cell:>width$}");
        }
        let _ = write!(line, "  {}", row[5]);
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

/// For SPECIFICATION.md: with its date, its kernel and what the columns are.
pub(super) fn markdown(figures: &Figures) -> String {
    let mut text = format!(
        "\nMeasured on {} by `cargo xtask bench syscall` on kernel {}, in a virtual machine whose clock\n\
         counts instructions: figures are guest instructions, of one call where a call is named. *Total* is\n\
         what the calling thread spends, in and out of the kernel, and in rows with strace and user notify\n\
         what the others spend while it waits; *added* is the total less that of the same call with nothing\n\
         attached; *elsewhere* is what other processes (the engine's reader, the supervisor, strace) do\n\
         because of the call. CI fails when *added* grows by more than 10 %. Rows without “default trace”\n\
         are those of `--trace off`.\n\n",
        figures.date(),
        figures.kernel()
    );
    let _ = writeln!(text, "| {} |", HEAD.join(" | "));
    text.push_str("|---|--:|--:|--:|--:|---|\n");
    for row in figures.rows() {
        let _ = writeln!(text, "| {} |", cells(figures, row).join(" | "));
    }
    text.push('\n');
    text
}

/// Puts the table between the two marks of a text.
pub(super) fn replace(text: &str, table: &str) -> Result<String> {
    let (before, rest) = text
        .split_once(BEGIN)
        .with_context(|| format!("there is no line `{}`", BEGIN.trim_end()))?;
    let (_, after) =
        rest.split_once(END).with_context(|| format!("there is no line `{END}` after it"))?;
    Ok(format!("{before}{BEGIN}{table}{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::{super::figures::tests::run_with, *};

    #[test]
    fn every_case_is_a_row_with_its_cost_in_units_of_a_deny() {
        let table = markdown(&run_with(200.0));
        for row in [
            "| nothing | 400 |  |  |  |  |",
            "| deny | 600 | 200 | 1.0 | 300 | ≤ 180: not met |",
            "| round trip | 7 400 | 7 000 | 35.0 | 6 500 | ≥ 30 × “deny”: met |",
            "| on | 13 000 |  |  |  | ≤ 50 µs: met |",
            "| kprobe |  |  |  |  | not measured: none here |",
        ] {
            assert!(table.lines().any(|line| line == row), "{row}\n{table}");
        }
        assert!(table.contains("2026-11-21") && table.contains("6.1.192"), "{table}");
    }

    #[test]
    fn only_what_lies_between_the_marks_is_replaced() {
        let text = "a\n<!-- bench syscall -->\nold\n<!-- /bench syscall -->\nb\n";
        let once = replace(text, "new\n").unwrap();
        assert_eq!(once, "a\n<!-- bench syscall -->\nnew\n<!-- /bench syscall -->\nb\n");
        assert_eq!(replace(&once, "new\n").unwrap(), once);
        assert!(replace("a\n", "new\n").is_err());
    }

    #[test]
    fn numbers_are_grouped_by_thousands() {
        let texts = [0, 999, 1_000, 1_234_567, -50, -1_500].map(spaced);
        assert_eq!(texts, ["0", "999", "1 000", "1 234 567", "-50", "-1 500"]);
    }
}
