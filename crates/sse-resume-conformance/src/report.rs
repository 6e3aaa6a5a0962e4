//! What came of all cases, as a table, Markdown and JUnit XML.

use std::fmt::Write;
use std::time::Duration;

use quick_junit::{NonSuccessKind, Report as Document, TestCase, TestCaseStatus, TestSuite};

use crate::adapter::Promise;
use crate::case::{Case, Verdict};

/// What came of one hub.
#[derive(Debug, Clone)]
pub struct Report {
    /// The hub.
    pub hub: String,
    /// How it was configured.
    pub about: String,
    /// Which version it was.
    pub version: String,
    /// The day.
    pub date: String,
    /// What it promises.
    pub promises: Vec<Promise>,
    /// A row for each case.
    pub rows: Vec<Row>,
}

/// What came of one case.
#[derive(Debug, Clone)]
pub struct Row {
    /// The case.
    pub case: Case,
    /// What came of it.
    pub verdict: Verdict,
    /// How long it took.
    pub seconds: f64,
}

impl Report {
    /// The cases that found a broken promise.
    pub fn failures(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| row.verdict.is_failure())
    }

    /// How many of each verdict there are, in one line.
    pub fn summary(&self) -> String {
        let mut counts: Vec<(&str, usize)> = Vec::new();
        for word in ["pass", "FAIL", "not promised", "not applicable", "not run"] {
            let count = self.rows.iter().filter(|row| row.verdict.word() == word).count();
            if count > 0 {
                counts.push((word, count));
            }
        }
        counts.iter().map(|(word, count)| format!("{count} {word}")).collect::<Vec<_>>().join(", ")
    }
}

/// One row of the terminal's table.
pub(crate) fn line(row: &Row) -> String {
    format!("{:<28} {:<14} {:>6.1} s  {}", row.case.name, row.verdict.word(), row.seconds, row.verdict.seen())
}

/// A hub's table for a terminal.
pub fn table(report: &Report) -> String {
    let mut text = format!("{} ({}), {}\n", report.hub, report.version, report.date);
    for row in &report.rows {
        let _ = writeln!(text, "{}", line(row).trim_end());
    }
    let _ = writeln!(text, "{}", report.summary());
    text
}

/// All hubs side by side, then each with what was seen.
pub fn markdown(reports: &[Report]) -> String {
    let mut text = String::new();
    if reports.len() > 1 {
        text.push_str(&side_by_side(reports));
    }
    for report in reports {
        let promises: Vec<String> = report.promises.iter().map(|promise| format!("`{promise}`")).collect();
        let _ = write!(
            text,
            "## {}\n\n{}, {}. Promises: {}.\n\n{}\n\n",
            report.hub,
            report.version,
            report.date,
            if promises.is_empty() { "none".to_owned() } else { promises.join(", ") },
            report.about.trim()
        );
        text.push_str("| case | | seen |\n|---|---|---|\n");
        for row in &report.rows {
            let _ = writeln!(
                text,
                "| `{}`: {} | {} | {} |",
                row.case.name,
                cell(row.case.about),
                emphasised(row.verdict.word()),
                cell(&row.verdict.seen())
            );
        }
        let _ = write!(text, "\n{}.\n\n", report.summary());
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

fn side_by_side(reports: &[Report]) -> String {
    let mut text = "| case |".to_owned();
    for report in reports {
        let _ = write!(text, " {} |", cell(&report.hub));
    }
    text.push_str("\n|---|");
    text.push_str(&"---|".repeat(reports.len()));
    text.push('\n');
    let cases: Vec<Case> = reports[0].rows.iter().map(|row| row.case).collect();
    for case in cases {
        let _ = write!(text, "| `{}` |", case.name);
        for report in reports {
            let row = report.rows.iter().find(|row| row.case.name == case.name);
            let _ = write!(text, " {} |", row.map_or(String::new(), |row| emphasised(row.verdict.word())));
        }
        text.push('\n');
    }
    text.push('\n');
    text
}

fn emphasised(word: &str) -> String {
    if word == "FAIL" { "**FAIL**".to_owned() } else { word.to_owned() }
}

/// A text that stays in its cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace(['\r', '\n'], " ")
}

/// All hubs as JUnit XML: a suite for each. What is not promised, not applicable or not run is skipped, with the reason.
pub fn junit(reports: &[Report]) -> Result<String, quick_junit::SerializeError> {
    let mut document = Document::new("sse-resume-conformance");
    for report in reports {
        let mut suite = TestSuite::new(&report.hub);
        suite.add_property(("version", report.version.as_str()));
        for row in &report.rows {
            suite.add_test_case(test_case(report, row));
        }
        document.add_test_suite(suite);
    }
    document.to_string()
}

fn test_case(report: &Report, row: &Row) -> TestCase {
    let seen = row.verdict.seen();
    let status = match &row.verdict {
        Verdict::Pass(_) => TestCaseStatus::success(),
        Verdict::Fail(_) => {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            status.set_message(seen.clone());
            status
        }
        other => {
            let mut status = TestCaseStatus::skipped();
            status.set_message(format!("{}: {seen}", other.word()));
            status
        }
    };
    let mut case = TestCase::new(row.case.name, status);
    case.set_classname(&report.hub);
    case.set_time(Duration::from_secs_f64(row.seconds));
    if matches!(row.verdict, Verdict::Pass(_)) && !seen.is_empty() {
        case.set_system_out(seen);
    }
    case
}
