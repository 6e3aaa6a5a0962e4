//! The suite, put to a hub that is correct by default: it passes everything, and each planted fault is found by the case that
//! names it.
#![cfg(test)]

mod faulty_hub;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use sse_resume_conformance::{Adapter, Options, Promise, Report, Verdict, junit, markdown, run_with, table};

use faulty_hub::Faulty;
use faulty_hub::fault::Fault;

fn adapter() -> Adapter {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faulty_hub/adapter.toml");
    Adapter::load(&path, &BTreeMap::new()).unwrap()
}

fn report_of(adapter: &Adapter, fault: Option<Fault>, case: Option<&str>) -> Report {
    let options = Options {
        case: case.map(str::to_owned),
        long: case == Some("idle-minutes"),
        jobs: 2,
        idle: Duration::from_secs(2),
    };
    run_with(adapter, &Faulty(fault), &options, &|_| ())
}

/// The case fails on a hub with the fault, with these words in what was seen.
fn found(fault: Fault, case: &str, words: &str) {
    let mut adapter = adapter();
    adapter.patience = 2;
    let report = report_of(&adapter, Some(fault), Some(case));
    let row = report.rows.iter().find(|row| row.case.name == case).unwrap();
    match &row.verdict {
        Verdict::Fail(seen) => assert!(seen.contains(words), "{fault:?}: {seen}"),
        other => panic!("{fault:?} was not found by {case}: {other:?}"),
    }
}

#[test]
fn a_correct_hub_passes_every_case() {
    let report = report_of(&adapter(), None, None);
    let passed = |verdict: &Verdict| matches!(verdict, Verdict::Pass(_) | Verdict::NotRun);
    assert!(report.rows.iter().all(|row| passed(&row.verdict)), "{}", table(&report));
    let idle = report_of(&adapter(), None, Some("idle-minutes"));
    assert!(matches!(idle.rows[0].verdict, Verdict::Pass(_)), "{}", table(&idle));
}

/// A test for each fault: its name, the fault, the case that names it, and what is seen.
macro_rules! faults {
    ($($name:ident: $fault:expr, $case:literal, $words:literal;)*) => {$(
        #[test]
        fn $name() {
            found($fault, $case, $words);
        }
    )*};
}

faults! {
    a_loss_between_replay_and_registration: Fault::LostAtHandoff, "handoff-loses-nothing", "missing";
    a_repetition_at_the_handoff: Fault::RepeatedAtHandoff, "handoff-repeats-nothing", "again";
    a_history_cut_at_1000: Fault::HistoryCut(1_000), "history-1000", "nothing came after 1000 of them";
    a_history_cut_at_10000: Fault::HistoryCut(10_000), "history-10000", "nothing came after 10000 of them";
    an_id_that_is_included: Fault::OffByOne, "boundary-every-id", "again";
    an_event_lost_behind_a_page: Fault::LostBehindPage, "boundary-lengths", "nothing came after 100 of them";
    an_empty_topic_refused: Fault::RefusesEmptyTopic, "boundary-first-event", "ends an EventSource for good";
    a_live_event_that_moves_the_cursor: Fault::LiveMovesCursor, "live-event-leaves-the-cursor", "missing";
    a_live_id_between_pages: Fault::LiveIdBetweenPages, "live-event-leaves-the-cursor", "missing";
    a_slow_reader_that_skips: Fault::SlowReaderSkips, "slow-reader-in-replay", "nothing came";
    a_slow_reader_that_blocks: Fault::SlowReaderBlocks, "slow-reader-delays-nobody", "";
    no_replay_until_a_publish: Fault::NoReplayUntilPublish, "resume-after-stop", "nothing came";
    no_replay_until_a_publish_after_a_kill: Fault::NoReplayUntilPublish, "resume-after-kill", "nothing came";
    an_id_given_twice: Fault::IdsUsedAgain, "ids-are-not-used-again", "was given to event 1 and to event 11";
    an_acknowledgement_too_early: Fault::AcknowledgedBeforeWritten, "kill-during-publish", "";
    a_new_history_at_each_start: Fault::NewEpochAtStart, "kill-during-replay", "a gap was told";
    visible_then_lost: Fault::VisibleBeforeWritten, "visible-is-not-lost", "were seen before the crash";
    an_unknown_id_that_is_now: Fault::UnknownIdIsNow, "id-unknown", "silently got only what happened next";
    a_future_id_that_is_now: Fault::UnknownIdIsNow, "id-future", "silently got only what happened next";
    a_foreign_id_that_is_known: Fault::EpochNotLookedAt, "id-foreign", "silently";
    a_malformed_id_that_is_refused: Fault::MalformedRefused, "id-malformed", "ends an EventSource for good";
    a_trim_untold: Fault::GapUntold, "trimmed-before-replay", "81..=120 are kept; after 1 came 81..=120";
    a_gap_told_at_the_boundary: Fault::GapAtBoundary, "trimmed-boundary", "after 80 came a gap";
    a_trim_untold_in_the_middle: Fault::GapUntoldLater, "trimmed-during-replay", "nothing said so";
    a_start_without_a_name: Fault::StartUnnamed, "start-latest-is-pinned", "missing";
    a_relative_start_without_a_name: Fault::StartUnnamed, "start-last-is-pinned", "missing";
    a_start_that_wins_over_the_id: Fault::StartBeforeId, "id-before-start", "where";
    a_replay_in_another_order: Fault::ReplaySorted, "replay-order-is-live-order", "the replay got";
    an_id_of_one_topic: Fault::IdOfOneTopic, "many-topics", "";
    an_id_before_its_event: Fault::IdBeforeEvent, "cut-at-any-byte", "missing";
    data_that_is_cut: Fault::LongDataCut, "torn-frames", "torn";
    a_carriage_return_injected: Fault::CrInjected, "injection", "forged";
    a_stream_forgotten_when_idle: Fault::IdleForgotten, "idle-minutes", "nothing came";
}

#[test]
fn what_is_not_promised_is_no_failure_and_is_told() {
    let mut adapter = adapter();
    adapter.promises.remove(&Promise::GapSignalled);
    let report = report_of(&adapter, Some(Fault::UnknownIdIsNow), Some("id-unknown"));
    let verdict = &report.rows[0].verdict;
    assert!(
        matches!(verdict, Verdict::NotPromised(Promise::GapSignalled, seen) if seen.contains("silently"))
    );
    assert_eq!(report.failures().count(), 0);
    // What holds without a promise is told too.
    let report = report_of(&adapter, None, Some("id-unknown"));
    assert!(matches!(&report.rows[0].verdict, Verdict::NotPromised(_, seen) if seen == "it held"));
}

#[test]
fn what_an_adapter_cannot_express_is_not_applicable() {
    let mut adapter = adapter();
    (adapter.trim, adapter.ids.grows, adapter.ids.unknown) = (None, None, None);
    adapter.subscribe.last = None;
    for case in ["trimmed-boundary", "id-future", "id-unknown", "start-last-is-pinned"] {
        let report = report_of(&adapter, None, Some(case));
        assert!(matches!(report.rows[0].verdict, Verdict::NotApplicable(_)), "{}", table(&report));
    }
}

#[test]
fn a_hub_that_does_not_start_fails_every_case() {
    let mut adapter = adapter();
    adapter.hub.start = vec!["/nonexistent/hub".to_owned()];
    let options = Options { case: Some("history-1000".to_owned()), ..Options::default() };
    let report = sse_resume_conformance::run(&adapter, &options, &|_| ());
    let cannot = |verdict: &Verdict| matches!(verdict, Verdict::Fail(seen) if seen.contains("cannot start"));
    assert!(report.rows.iter().all(|row| row.case.long || cannot(&row.verdict)), "{}", table(&report));
}

#[test]
fn the_tables_tell_all_verdicts() {
    let mut adapter = adapter();
    adapter.trim = None;
    adapter.promises.remove(&Promise::GapSignalled);
    let report = report_of(&adapter, Some(Fault::UnknownIdIsNow), Some("-un"));
    let mut other = report_of(&self::adapter(), Some(Fault::CrInjected), Some("injection"));
    other.hub = "other | hub".to_owned();
    let text = markdown(&[report.clone(), other.clone()]);
    for part in ["| `id-unknown` | not promised |", "other \\| hub", "**FAIL**", "## faulty hub"] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    let xml = junit(&[report, other]).unwrap();
    for part in ["<skipped message=\"not promised: gap-signalled", "<failure message=", "failures=\"1\""] {
        assert!(xml.contains(part), "{part} is not in {xml}");
    }
}
