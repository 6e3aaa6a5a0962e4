//! Publishing one event: `POST /v1/topics/{topic}/events`, and `DELETE` of a key, which publishes a tombstone.
//!
//! The body is the data, verbatim. The answer comes after the log's, so after the event is durable.

use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderValue, LOCATION};
use actix_web::{HttpRequest, HttpResponse, web};
use bytestring::ByteString;
use event_log::{
    Appended, Batch, Data, Epoch, EventId, EventType, Expected, IdempotencyKey, Key, NewEvent, Origin,
    Position, Timestamp, Topic,
};
use uuid::Uuid;

use crate::body::{self, Bound};
use crate::caller::Caller;
use crate::envelope;
use crate::json;
use crate::limits::Limit;
use crate::path::segment;
use crate::problem::Problem;
use crate::query::{Param, Query};
use crate::state::State;

pub(crate) const IDEMPOTENCY_KEY: &str = "idempotency-key";
pub(crate) const EXPECTED_ID: &str = "perennial-expected-id";

const PARAMS: [Param; 3] = [Param::Once("type"), Param::Once("key"), Param::Once("origin")];

/// Where a published event came to lie, as it is told.
pub(crate) struct Answer<'a> {
    id: EventId,
    topic: &'a str,
    time: Timestamp,
    uuid: Uuid,
    duplicate: bool,
}

impl<'a> Answer<'a> {
    pub(crate) fn new(appended: &Appended, topic: &'a Topic, epoch: Epoch) -> Self {
        Answer {
            id: EventId::new(appended.position, epoch),
            topic: topic.as_str(),
            time: appended.time,
            uuid: appended.uuid,
            duplicate: appended.duplicate,
        }
    }

    /// Writes it as an object of JSON: by hand, because every event is answered.
    pub(crate) fn write(&self, buffer: &mut Vec<u8>) {
        buffer.extend_from_slice(b"{\"id\":\"");
        envelope::write_event_id(buffer, self.id);
        buffer.extend_from_slice(b"\",\"sequence\":");
        envelope::write_number(buffer, self.id.position.get());
        buffer.extend_from_slice(b",\"topic\":");
        envelope::write_text(buffer, self.topic);
        envelope::write_identity(buffer, self.time, self.uuid);
        let duplicate = if self.duplicate { "true" } else { "false" };
        buffer.extend_from_slice(b",\"duplicate\":");
        buffer.extend_from_slice(duplicate.as_bytes());
        buffer.push(b'}');
    }

    /// Whether it was published now or before.
    pub(crate) fn status(&self) -> StatusCode {
        if self.duplicate { StatusCode::OK } else { StatusCode::CREATED }
    }

    /// Where the event can be read.
    pub(crate) fn id(&self) -> EventId {
        self.id
    }
}

/// `POST /v1/topics/{topic}/events`.
pub(crate) async fn event(
    request: HttpRequest,
    payload: web::Payload,
    state: web::Data<State>,
    caller: Caller,
) -> Result<HttpResponse, Problem> {
    let topic = topic(segment(&request, 2)?)?;
    caller.publish(&topic)?;
    let described = Described::read(topic, request.uri().query().unwrap_or_default())?;
    let conditions = Conditions::of(&request)?;
    let bytes_max = state.options.limits.data_bytes_max;
    let body = body::read(&request, payload, Bound::of(Limit::Data, bytes_max), &state).await?;
    // Copied: what was received lies in the connection's own, larger buffer, which the event must not keep alive.
    let data = data(ByteString::from(body::text(&body)?), bytes_max)?;
    drop(body);
    publish(&request, &caller, described.with(data), conditions).await
}

/// An event to be published, but for its data and what its headers say.
pub(crate) struct Described {
    topic: Topic,
    event_type: Option<EventType>,
    key: Option<Key>,
    origin: Option<Origin>,
}

impl Described {
    /// Reads a query.
    pub(crate) fn read(topic: Topic, query: &str) -> Result<Self, Problem> {
        let query = Query::parse_text(query, &PARAMS)?;
        Ok(Described {
            topic,
            event_type: query.get("type").map(event_type).transpose()?.flatten(),
            key: query.get("key").map(key).transpose()?,
            origin: query.get("origin").map(origin).transpose()?,
        })
    }

    pub(crate) fn with(self, data: Data) -> NewEvent {
        let Described { topic, event_type, key, origin } = self;
        NewEvent { topic, event_type, key, origin, idempotency_key: None, data }
    }
}

/// `DELETE /v1/topics/{topic}/keys/{key}`.
pub(crate) async fn tombstone(request: HttpRequest, caller: Caller) -> Result<HttpResponse, Problem> {
    let topic = topic(segment(&request, 2)?)?;
    caller.publish(&topic)?;
    let key = key(segment(&request, 4)?)?;
    Query::parse(&request, &[])?;
    let conditions = Conditions::of(&request)?;
    let text = serde_json::json!({ "key": key.as_str() }).to_string();
    let event = NewEvent {
        event_type: Some(EventType::delete()),
        key: Some(key),
        ..NewEvent::new(topic, Data::from(ByteString::from(text)))
    };
    publish(&request, &caller, event, conditions).await
}

async fn publish(
    request: &HttpRequest,
    caller: &Caller,
    event: NewEvent,
    conditions: Conditions,
) -> Result<HttpResponse, Problem> {
    let topic = event.topic.clone();
    let batch = conditions.batch(event);
    caller.take_rate(request, &batch.events)?;
    let broker = &caller.state().broker;
    let epochs = broker.epochs();
    let receipt = broker.publish(batch).await.map_err(|error| Problem::append(&error, epochs))?;
    let appended = &receipt.events[0];
    let answer = Answer::new(appended, &topic, epochs.current());
    let mut body = Vec::new();
    answer.write(&mut body);
    let mut response = json::respond(answer.status(), body);
    if let Ok(location) = HeaderValue::try_from(format!("/v1/events/{}", answer.id)) {
        response.headers_mut().insert(LOCATION, location);
    }
    Ok(response)
}

/// What the headers of a publish of one event may say.
pub(crate) struct Conditions {
    idempotency_key: Option<IdempotencyKey>,
    expected: Option<Expected>,
}

impl Conditions {
    /// Those of a request.
    fn of(request: &HttpRequest) -> Result<Self, Problem> {
        let key = header(request, IDEMPOTENCY_KEY)?.map(HeaderValue::as_bytes);
        let expected_id = header(request, EXPECTED_ID)?.map(HeaderValue::as_bytes);
        Conditions::read(key, expected_id)
    }

    /// Reads the values of the two headers.
    pub(crate) fn read(key: Option<&[u8]>, expected_id: Option<&[u8]>) -> Result<Self, Problem> {
        let idempotency_key = key.map(|value| {
            let text = std::str::from_utf8(value).map_err(|_| {
                let detail = "Idempotency-Key is not UTF-8; it is 1 to 512 bytes of UTF-8";
                Problem::bad_request("invalid-idempotency-key", IDEMPOTENCY_KEY, detail)
            })?;
            idempotency_key(text, IDEMPOTENCY_KEY)
        });
        let expected = expected_id.map(expected);
        Ok(Conditions { idempotency_key: idempotency_key.transpose()?, expected: expected.transpose()? })
    }

    /// An event under these conditions.
    pub(crate) fn batch(self, event: NewEvent) -> Batch {
        let event = NewEvent { idempotency_key: self.idempotency_key, ..event };
        Batch { events: vec![event], expected: self.expected }
    }
}

fn header<'a>(request: &'a HttpRequest, name: &str) -> Result<Option<&'a HeaderValue>, Problem> {
    let mut values = request.headers().get_all(name);
    let first = values.next();
    match values.next() {
        None => Ok(first),
        Some(_) => {
            let detail = format!("header {name} is given more than once; it may be given once");
            Err(Problem::bad_request("repeated-header", name, detail))
        }
    }
}

fn expected(value: &[u8]) -> Result<Expected, Problem> {
    match EventId::parse(value) {
        Ok(id) if id.position == Position::ORIGIN => Ok(Expected::Never),
        Ok(id) => Ok(Expected::Event(id)),
        Err(invalid) => {
            let detail = format!("{}; or 0 if the topic must not have had an event", invalid.detail);
            Err(Problem::bad_request("invalid-id", EXPECTED_ID, detail))
        }
    }
}

/// A topic that somebody may publish to.
pub(crate) fn topic(text: impl Into<ByteString>) -> Result<Topic, Problem> {
    let topic = Topic::parse(text).map_err(|invalid| Problem::invalid("invalid-topic", "topic", invalid))?;
    if topic.is_reserved() {
        let detail =
            format!("topic {:?} starts with $, which only the broker's own topics do", topic.as_str());
        return Err(Problem::bad_request("invalid-topic", "topic", detail));
    }
    Ok(topic)
}

/// A type that somebody may publish.
pub(crate) fn event_type(text: impl Into<ByteString>) -> Result<Option<EventType>, Problem> {
    EventType::parse_published(text).map_err(|invalid| Problem::invalid("invalid-type", "type", invalid))
}

pub(crate) fn key(text: impl Into<ByteString>) -> Result<Key, Problem> {
    Key::parse(text).map_err(|invalid| Problem::invalid("invalid-key", "key", invalid))
}

pub(crate) fn origin(text: impl Into<ByteString>) -> Result<Origin, Problem> {
    Origin::parse(text).map_err(|invalid| Problem::invalid("invalid-origin", "origin", invalid))
}

pub(crate) fn idempotency_key(text: impl Into<ByteString>, field: &str) -> Result<IdempotencyKey, Problem> {
    IdempotencyKey::parse(text).map_err(|invalid| Problem::invalid("invalid-idempotency-key", field, invalid))
}

pub(crate) fn data(text: impl Into<ByteString>, bytes_max: usize) -> Result<Data, Problem> {
    Data::parse(text, bytes_max).map_err(|invalid| Problem::invalid("invalid-data", "data", invalid))
}

#[cfg(test)]
mod tests;
