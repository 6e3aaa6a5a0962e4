//! The suite that any durable hub can be put through, put to this one: it must pass every case that does not take minutes.
//!
//! `sse-resume-conformance` links no code of ours either; it starts the built binary by its adapter file.

use std::collections::BTreeMap;
use std::path::Path;

use sse_resume_conformance::{Adapter, Options, Verdict, run, table};

#[test]
fn every_case_of_the_resume_conformance_suite_passes() {
    let adapter = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../crates/sse-resume-conformance/adapters/perennial.toml");
    let binary = ("PERENNIAL_BIN".to_owned(), env!("CARGO_BIN_EXE_perennial").to_owned());
    let adapter = Adapter::load(&adapter, &BTreeMap::from([binary])).expect("the adapter");
    let report = run(&adapter, &Options { jobs: 2, ..Options::default() }, &|_| ());
    assert!(report.rows.len() > 30, "only {} cases", report.rows.len());
    let held = |verdict: &Verdict| matches!(verdict, Verdict::Pass(_));
    // Nothing is unpromised or inapplicable here: only the cases that take minutes are left out.
    let passed =
        report.rows.iter().all(|row| held(&row.verdict) || (row.case.long && row.verdict == Verdict::NotRun));
    assert!(passed, "{}", table(&report));
}
