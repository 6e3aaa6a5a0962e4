use actix_web::body::to_bytes;
use event_log::{Epoch, Position};

use super::*;

fn epochs() -> Epochs {
    Epochs::first(Epoch::new(0x7f3a_9c1e))
}

#[actix_web::test]
async fn a_problem_is_written_whole() {
    let problem = Problem::bad_request("invalid-key", "key", "no \"key\"").with_line(3);
    let response = problem.error_response();
    assert_eq!(response.headers().get("content-type").unwrap(), CONTENT_TYPE);
    assert!(!response.headers().contains_key("retry-after"));
    let body = to_bytes(response.into_body()).await.unwrap();
    let expected = r#"{"type":"about:blank","title":"Bad Request","status":400,"code":"invalid-key","detail":"no \"key\"","field":"key","line":3}"#;
    assert_eq!(body, expected);
}

#[test]
fn each_error_of_an_append_has_its_status() {
    let first = Position::new(7);
    for (error, status, retry) in [
        (AppendError::ExpectedMismatch { last: Some(first) }, 412, false),
        (AppendError::IdempotencyConflict { index: 0, first: Some(first) }, 422, false),
        (AppendError::NoSpace { free: 1, floor: 2 }, 507, false),
        (AppendError::Overloaded, 503, true),
        (AppendError::Closed, 503, true),
        (AppendError::Engine("broken".into()), 503, true),
    ] {
        let problem = Problem::append(&error, &epochs());
        let response = problem.error_response();
        assert_eq!((problem.parts().0, problem.code()), (status, error.code()));
        assert_eq!(response.headers().contains_key("retry-after"), retry, "{error:?}");
    }
}

#[test]
fn a_mismatch_names_the_newest_event_or_says_that_there_is_none() {
    let last_id = |last| Problem::append(&AppendError::ExpectedMismatch { last }, &epochs()).last_id;
    assert_eq!(last_id(Some(Position::new(7))).as_deref(), Some("7-7f3a9c1e"));
    assert_eq!(last_id(None).as_deref(), Some("0"));
}

#[test]
fn a_conflict_names_the_event_that_has_the_key_unless_it_was_refused_too() {
    let refused = |first| Problem::append(&AppendError::IdempotencyConflict { index: 1, first }, &epochs());
    assert!(refused(Some(Position::new(7))).detail.contains("by event 7-7f3a9c1e;"));
    assert!(refused(None).detail.contains("by an earlier event of this batch;"));
}

#[test]
fn a_damaged_log_is_our_fault_and_a_closed_one_may_come_back() {
    assert_eq!(Problem::from(ReadError::Damaged("x".into())).parts().0, 500);
    assert_eq!(Problem::from(ReadError::Closed).parts().0, 503);
    assert_eq!(Problem::from(ReadError::Engine("x".into())).parts().0, 503);
}

#[test]
fn what_is_too_large_is_not_malformed() {
    let invalid = |too_large| Invalid { detail: "x".into(), too_large };
    assert_eq!(Problem::invalid("invalid-data", "data", invalid(true)).parts().0, 413);
    assert_eq!(Problem::invalid("invalid-data", "data", invalid(false)).parts().0, 400);
}
