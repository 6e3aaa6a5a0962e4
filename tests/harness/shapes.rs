//! One question to all three shapes of reading, whose answers must agree.

use serde_json::{Value, json};

use super::{Broker, Reader, Request};

/// Reads with one query and header as a stream up to its head, as a page and as NDJSON; checks that they agree and returns
/// the data of the events and the gap, null if there is none.
pub(crate) fn read(broker: &Broker, query: &str, header: Option<&[u8]>) -> (Vec<String>, Value) {
    let request = |accept: &str| {
        let request = Request::new("GET", &format!("/v1/events?{query}")).header("Accept", accept);
        header.into_iter().fold(request, |request, id| request.header("Last-Event-ID", id))
    };
    let mut reader = Reader::open_request(broker, &request("text/event-stream"));
    let mut events = reader.until("$live");
    let mut gap = Value::Null;
    if events[0].kind == "$gap" {
        let first = events.remove(0);
        gap = first.json();
        assert_eq!(gap["resumed_after"], first.id.as_str(), "the gap's id is the place it goes on from");
        assert!(first.retry.is_some(), "retry is in the first block");
        assert_eq!(events[0].id, first.id, "$open begins where the gap ends");
    }
    assert_eq!(events[0].kind, "$open", "{events:?}");
    assert_eq!(events[0].json()["from"], events[0].id.as_str());
    let of_broker = events.iter().filter(|event| event.kind.starts_with('$') && event.kind != "$delete");
    assert_eq!(of_broker.count(), 2, "{events:?}");
    let published = events.iter().filter(|event| !event.kind.starts_with('$') || event.kind == "$delete");
    let data: Vec<String> = published.map(|event| event.data.clone()).collect();

    let page = broker.send(&request("application/json"));
    assert_eq!(page.status, 200, "{page}");
    let page = page.json();
    assert_eq!(page["gap"], gap, "the page's gap, {query} {header:?}");
    let of_page = page["events"].as_array().unwrap().iter().map(text_of);
    assert!(of_page.eq(data.iter().cloned()), "the page, {query} {header:?}: {page}");

    let mut lines = broker.send(&request("application/x-ndjson")).lines();
    if !gap.is_null() {
        let line = lines.remove(0);
        assert_eq!(line, json!({ "type": "$gap", "id": gap["resumed_after"], "data": gap }));
    }
    assert!(lines.iter().map(text_of).eq(data.iter().cloned()), "{lines:?}");
    (data, gap)
}

/// The data of an envelope as text.
fn text_of(event: &Value) -> String {
    event["data"].as_str().map_or_else(|| event["data"].to_string(), str::to_owned)
}
