//! The table of a `fault_matrix()` (language.md 1.16.5).

use std::time::Duration;

use serde_json::{Value, json};

use super::{Repetitions, Style, plain::one_line};
use crate::spec::Matrix;

/// The least width of a column, which times of up to ten seconds fit into.
const NARROWEST: usize = 14;

/// A matrix and what became of its cells.
#[derive(Debug)]
pub struct MatrixReport {
    matrix: Matrix,
    /// Whether every cell was to run several times.
    repeated: bool,
    /// By row and column; `None` for cells that were not run.
    cells: Vec<Vec<Option<Cell>>>,
}

/// What became of a cell.
#[derive(Debug)]
struct Cell {
    passed: usize,
    runs: usize,
    /// Of the first run.
    duration: Duration,
    /// Why the first run that did not pass did not.
    reason: Option<String>,
    /// Whether it has rules of which none did anything in any run.
    is_idle: bool,
}

impl Cell {
    fn has_passed(&self) -> bool {
        self.passed == self.runs
    }
}

impl MatrixReport {
    /// A matrix of which no cell has been run.
    pub fn new(mut matrix: Matrix, repeated: bool) -> Self {
        for name in matrix.scenarios.iter_mut().chain(&mut matrix.faults) {
            *name = one_line(name);
        }
        let row = || matrix.faults.iter().map(|_| None).collect();
        let cells = matrix.scenarios.iter().map(|_| row()).collect();
        Self { matrix, repeated, cells }
    }

    /// Adds what the runs of a cell came to: nothing if there was none.
    pub fn add(&mut self, scenario: usize, fault: usize, runs: &Repetitions) {
        let place = self.cells.get_mut(scenario).and_then(|row| row.get_mut(fault));
        let (Some(place), Some(shown)) = (place, runs.shown()) else { return };
        *place = Some(Cell {
            passed: runs.passed(),
            runs: runs.runs(),
            duration: runs.duration(),
            reason: shown.failure.as_ref().map(|it| one_line(&it.reason)),
            is_idle: runs.is_idle(),
        });
    }

    /// The table and what is to be said of it, from a blank line on; nothing when no cell was run.
    pub(super) fn lines(&self, style: Style) -> Vec<String> {
        let all: Vec<(&str, &str, &Cell)> = self.all().collect();
        if all.is_empty() {
            return Vec::new();
        }
        let Matrix { scenarios, faults, excluded } = &self.matrix;
        let (rows, columns) = (scenarios.len(), faults.len());
        let mut lines = vec![
            String::new(),
            format!(
                "Fault Matrix: {rows} scenarios × {columns} faults = {} cells",
                rows * columns - excluded.len()
            ),
            String::new(),
        ];
        lines.extend(self.table(style));
        lines.push(String::new());
        let passed = all.iter().filter(|(_, _, cell)| cell.has_passed()).count();
        let failed = all.len() - passed;
        let failures = if failed > 0 { format!(", {failed} failed") } else { String::new() };
        lines.push(format!("Result: {passed}/{} passed{failures}", all.len()));
        if failed > 0 {
            lines.push("Failures:".to_owned());
        }
        lines.extend(all.iter().filter_map(|(scenario, fault, cell)| {
            Some(format!("  {scenario} × {fault}: {}", cell.reason.as_ref()?))
        }));
        let idle = all.iter().filter(|(_, _, cell)| cell.has_passed() && cell.is_idle);
        let idle: Vec<_> =
            idle.map(|(scenario, fault, _)| format!("({scenario}, {fault})")).collect();
        if !idle.is_empty() {
            lines.push(format!("Note: no fault fired in: {}", idle.join(", ")));
        }
        lines
    }

    /// As in JSON; `None` when no cell was run.
    pub(super) fn json(&self) -> Option<Value> {
        let Matrix { scenarios, faults, excluded } = &self.matrix;
        let cells: Vec<_> = self
            .all()
            .map(|(scenario, fault, cell)| {
                let mut value = json!({
                    "scenario": scenario,
                    "fault": fault,
                    "passed": cell.has_passed(),
                    "outcome": if cell.has_passed() { "passed" } else { "failed" },
                    "duration_ms": cell.duration.as_millis() as u64,
                    "fault_fired": !cell.is_idle,
                });
                if let Some(reason) = &cell.reason {
                    value["reason"] = reason.as_str().into();
                }
                value
            })
            .collect();
        let passed = cells.iter().filter(|it| it["passed"] == true).count();
        let excluded: Vec<_> =
            excluded.iter().map(|(row, column)| [&scenarios[*row], &faults[*column]]).collect();
        (!cells.is_empty()).then(|| {
            json!({
                "scenarios": scenarios,
                "faults": faults,
                "total": cells.len(),
                "passed": passed,
                "failed": cells.len() - passed,
                "cells": cells,
                "excluded": excluded,
            })
        })
    }

    /// Cells that were run, with the names of their scenario and fault.
    fn all(&self) -> impl Iterator<Item = (&str, &str, &Cell)> {
        let rows = self.matrix.scenarios.iter().zip(&self.cells);
        rows.flat_map(|(scenario, row)| {
            let cells = self.matrix.faults.iter().zip(row);
            cells.filter_map(move |(fault, cell)| {
                Some((scenario.as_str(), fault.as_str(), cell.as_ref()?))
            })
        })
    }

    fn table(&self, style: Style) -> Vec<String> {
        let Matrix { scenarios, faults, .. } = &self.matrix;
        let first = scenarios.iter().map(|it| length(it)).max().unwrap_or(0) + 8;
        let texts: Vec<Vec<Text>> = (0..scenarios.len())
            .map(|row| (0..faults.len()).map(|column| self.text(row, column, style)).collect())
            .collect();
        let widths: Vec<usize> = (0..faults.len())
            .map(|column| {
                let cells = texts.iter().map(|row| row[column].length).max().unwrap_or(0);
                NARROWEST.max(length(&faults[column]) + 1).max(cells)
            })
            .collect();
        let line = |name: &str, cells: &[Text]| {
            let mut line = pad(name, length(name), first);
            for (i, (cell, width)) in cells.iter().zip(&widths).enumerate() {
                let width = if i + 1 < cells.len() { *width } else { 0 };
                line.push_str("│ ");
                line.push_str(&pad(&cell.text, cell.length, width));
            }
            line
        };
        let heads: Vec<Text> = faults.iter().map(|it| Text::plain(it.clone())).collect();
        let mut rule = "─".repeat(first);
        for (i, width) in widths.iter().enumerate() {
            // The last column has nothing behind it.
            let width = if i + 1 < widths.len() { width + 1 } else { *width };
            rule.push('┼');
            rule.push_str(&"─".repeat(width));
        }
        let mut lines = vec![line("", &heads), rule];
        lines.extend(scenarios.iter().zip(&texts).map(|(name, cells)| line(name, cells)));
        lines
    }

    fn text(&self, row: usize, column: usize, style: Style) -> Text {
        let Some(cell) = &self.cells[row][column] else {
            let excluded = if self.matrix.is_excluded(row, column) { " (excluded)" } else { "" };
            return Text::plain(format!("—{excluded}"));
        };
        let verdict = if cell.has_passed() { style.pass() } else { style.fail() };
        let details = if self.repeated {
            format!(" ({}/{})", cell.passed, cell.runs)
        } else {
            format!(" ({}ms)", cell.duration.as_millis())
        };
        // A verdict has four letters, whatever colours it.
        Text { length: 4 + details.len(), text: format!("{verdict}{details}") }
    }
}

/// A text and the columns that it takes on a terminal.
struct Text {
    text: String,
    length: usize,
}

impl Text {
    fn plain(text: String) -> Self {
        Self { length: length(&text), text }
    }
}

fn length(text: &str) -> usize {
    text.chars().count()
}

/// The text and blanks behind it.
fn pad(text: &str, length: usize, width: usize) -> String {
    format!("{text}{}", " ".repeat(width.saturating_sub(length)))
}

#[cfg(test)]
mod tests;
