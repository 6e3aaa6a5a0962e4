//! The console in a real browser: every view and every act, click by click and by the keyboard. Each scenario also ends with
//! no violation of the content security policy.

use std::time::Duration;

use crate::harness::outside::Outside;
use crate::harness::tokens::{all_powerful, asking, claims, signed};
use crate::harness::{Broker, heavy};

const LIMIT: Duration = Duration::from_secs(180);

/// Runs a scenario of `tests/clients/console_scenarios.mjs`, which says what it saw; the last thing is that no rule was broken.
fn go_through(broker: &Broker, scenario: &str, token: Option<&str>, seen: usize) {
    let _turn = heavy::turn();
    let url = broker.url();
    let arguments: Vec<&str> = [&*url, scenario].into_iter().chain(token).collect();
    let mut browser = Outside::start("node", "console.mjs", &arguments);
    browser.wait_for("all of it is seen", LIMIT, |lines| lines.len() > seen);
    browser.finish();
    browser.lines().iter().for_each(|line| println!("{scenario}: {}", line["seen"]));
    assert_eq!(browser.lines().len(), seen + 1);
}

#[test]
fn every_view_is_shown() {
    go_through(&Broker::quick(), "views", None, 8);
}

#[test]
fn policies_purges_and_events_are_made_by_hand() {
    go_through(&Broker::quick(), "acts", None, 4);
}

#[test]
fn a_stream_is_closed_and_one_that_is_cut_goes_on_exactly() {
    go_through(&Broker::with(&["--set", "retry=300ms"]), "streams", None, 2);
}

#[test]
fn a_flood_is_sampled_and_the_page_still_answers() {
    go_through(&Broker::start(), "flood", None, 1);
}

#[test]
fn a_token_signs_in_and_out() {
    go_through(&asking(&["--set", "retry=300ms"]), "sign-in", Some(&all_powerful()), 3);
}

#[test]
fn what_a_token_does_not_allow_is_said() {
    let reader = signed(&claims("reader", &[], &["a.*"], false));
    go_through(&asking(&[]), "few-rights", Some(&reader), 1);
}

#[test]
fn a_keyboard_is_enough() {
    go_through(&Broker::start(), "keyboard", None, 2);
}
