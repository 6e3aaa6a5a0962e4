//! A batch of events on its way to the broker.

use std::borrow::Cow;

use anyhow::Context;
use reqwest::header::CONTENT_TYPE;
use serde::{Deserialize, Serialize};

use super::http::Server;

/// One event of a batch, as it is sent. The data is a JSON string, which the broker takes verbatim.
#[derive(Debug, Serialize)]
pub(crate) struct Line<'a> {
    pub(crate) topic: &'a str,
    pub(crate) data: &'a str,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub(crate) event_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) origin: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) idempotency_key: Option<Cow<'a, str>>,
}

impl Line<'_> {
    pub(crate) fn write(&self, body: &mut Vec<u8>) {
        serde_json::to_writer(&mut *body, self).expect("a line is made of texts");
        body.push(b'\n');
    }
}

/// What the broker answers for one event.
#[derive(Debug, Deserialize)]
pub(crate) struct Published {
    pub(crate) id: String,
    pub(crate) duplicate: bool,
}

#[derive(Debug, Deserialize)]
struct PublishedBatch {
    events: Vec<Published>,
}

/// Publishes lines, all or none of them. A refusal is a [`super::http::Refused`].
pub(crate) async fn publish(server: &Server, lines: Vec<u8>) -> anyhow::Result<Vec<Published>> {
    let request = server.client().post(server.url(&["v1", "events"])).body(lines);
    let response = server.open(request.header(CONTENT_TYPE, "application/x-ndjson")).await?;
    let published: PublishedBatch = response.json().await.context("the broker's answer broke off")?;
    Ok(published.events)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_sent_as_a_json_string_whatever_it_looks_like() {
        let line = Line {
            topic: "a",
            data: "{\"n\": 1.0}\r",
            event_type: Some("t"),
            key: None,
            origin: None,
            idempotency_key: Some("k:1".into()),
        };
        let mut body = Vec::new();
        line.write(&mut body);
        assert_eq!(
            String::from_utf8(body).unwrap(),
            "{\"topic\":\"a\",\"data\":\"{\\\"n\\\": 1.0}\\r\",\"type\":\"t\",\"idempotency_key\":\"k:1\"}\n"
        );
    }
}
