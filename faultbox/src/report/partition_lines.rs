//! What partitions have cut (language.md 1.14, 1.16.2).

use crate::engine::PartitionDirection;

use super::{
    PartitionReport, TestReport,
    plain::{counted, one_line},
};

/// A line per partition; those that follow each other and say the same share one.
pub(super) fn partition_lines(report: &TestReport) -> Vec<String> {
    let groups = report.partitions.chunk_by(is_same);
    let lines = groups.filter_map(|group| {
        let first = group.first()?;
        let hits: u64 = group.iter().map(|it| it.counts.hits()).sum();
        let times = if group.len() > 1 { format!(" ×{}", group.len()) } else { String::new() };
        let (pair, mode) = (pair(first), first.mode.name());
        Some(format!("  partition: {pair} ({mode}, {}){times}", counted(hits, "hit")))
    });
    lines.collect()
}

/// Said of partitions that cut nothing, when something else in the test had hits.
pub(super) fn idle_notes(report: &TestReport) -> Vec<String> {
    let idle = report.partitions.iter().filter(|it| it.counts.hits() == 0);
    let mut notes: Vec<_> =
        idle.map(|it| format!("  note: no hits in window: partition {}", pair(it))).collect();
    notes.dedup();
    notes
}

/// Why partitions may have cut nothing.
pub(super) fn hints(report: &TestReport) -> Vec<String> {
    let mut hints: Vec<_> = report
        .partitions
        .iter()
        .map(|it| {
            let (a, b) = (one_line(&it.a), one_line(&it.b));
            match it.direction {
                PartitionDirection::Both => {
                    format!("{a} and {b} had no traffic with each other while they were apart")
                }
                PartitionDirection::AToB => {
                    format!("{a} had no traffic to {b} meanwhile; direction=\"both\" cuts all")
                }
                PartitionDirection::BToA => {
                    format!("{b} had no traffic to {a} meanwhile; direction=\"both\" cuts all")
                }
            }
        })
        .collect();
    hints.dedup();
    hints
}

/// The partitions that cut nothing in any of their windows, each once: `api ⇹ db (refuse)`.
pub fn uncut(partitions: &[PartitionReport]) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for partition in partitions {
        let hit = partitions.iter().any(|it| is_same(it, partition) && it.counts.hits() > 0);
        let text = format!("partition {} ({})", pair(partition), partition.mode.name());
        if !hit && !found.contains(&text) {
            found.push(text);
        }
    }
    found
}

fn is_same(one: &PartitionReport, other: &PartitionReport) -> bool {
    let key = |it: &PartitionReport| (it.a.clone(), it.b.clone(), it.mode, it.direction);
    key(one) == key(other)
}

fn pair(partition: &PartitionReport) -> String {
    let arrow = match partition.direction {
        PartitionDirection::Both => "⇹",
        PartitionDirection::AToB => "→",
        PartitionDirection::BToA => "←",
    };
    format!("{} {arrow} {}", one_line(&partition.a), one_line(&partition.b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{PartitionCounts, PartitionMode};

    fn partition(direction: PartitionDirection, refused: u64, reset: u64) -> PartitionReport {
        PartitionReport {
            a: "api".to_owned(),
            b: "db".to_owned(),
            mode: PartitionMode::Refuse,
            direction,
            counts: PartitionCounts { refused, reset, ..PartitionCounts::default() },
        }
    }

    fn report(partitions: Vec<PartitionReport>) -> TestReport {
        TestReport { partitions, ..super::super::sample::passed("test_x") }
    }

    #[test]
    fn a_line_says_who_was_cut_off_and_how_often() {
        let one = report(vec![
            partition(PartitionDirection::Both, 1, 1),
            partition(PartitionDirection::AToB, 0, 1),
            partition(PartitionDirection::BToA, 0, 0),
            partition(PartitionDirection::BToA, 2, 1),
        ]);
        assert_eq!(
            partition_lines(&one),
            [
                "  partition: api ⇹ db (refuse, 2 hits)",
                "  partition: api → db (refuse, 1 hit)",
                "  partition: api ← db (refuse, 3 hits) ×2",
            ]
        );
        assert_eq!(idle_notes(&one), ["  note: no hits in window: partition api ← db"]);
        assert!(uncut(&one.partitions).is_empty());
    }

    #[test]
    fn a_partition_that_cut_nothing_is_named() {
        let idle = report(vec![partition(PartitionDirection::AToB, 0, 0)]);
        assert_eq!(uncut(&idle.partitions), ["partition api → db (refuse)"]);
        assert_eq!(
            hints(&idle),
            ["api had no traffic to db meanwhile; direction=\"both\" cuts all"]
        );
    }
}
