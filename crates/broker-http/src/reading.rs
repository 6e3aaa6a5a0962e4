//! What a reading asks for, taken from its query and checked.

use std::sync::Arc;
use std::time::Duration;

use actix_web::HttpRequest;
use broker::{OnGap, Opened, Start};
use event_log::limits::{JSON_PAGE_EVENTS_MAX, TYPES_MAX, WAIT_SECONDS_MAX};
use event_log::{EventType, Filter, Origin, Pattern};

use crate::accept::Shape;
use crate::problem::Problem;
use crate::query::{Param, Query};
use crate::start::{self, Until};
use crate::state::State;

/// What a reading may say in its query, but for its topics.
pub(crate) const PARAMS: [Param; 13] = [
    Param::Once("last_event_id"),
    Param::Once("lastEventId"),
    Param::Once("lastEventID"),
    Param::Once("from"),
    Param::Once("on_gap"),
    Param::Repeatable("type"),
    Param::Once("exclude_origin"),
    Param::Once("envelope"),
    Param::Once("quiet"),
    Param::Once("limit"),
    Param::Once("until"),
    Param::Once("wait"),
    Param::Repeatable("topic"),
];

/// A reading that was asked for.
pub(crate) struct Reading {
    pub(crate) filter: Arc<Filter>,
    pub(crate) start: Start,
    pub(crate) on_gap: OnGap,
    pub(crate) envelope: bool,
    pub(crate) quiet: bool,
    pub(crate) limit: Option<usize>,
    pub(crate) until: Option<Until>,
    pub(crate) wait: Option<Duration>,
}

/// Checks what was asked for, for the shape that will answer it.
pub(crate) fn reading(
    request: &HttpRequest,
    query: &Query,
    patterns: Vec<Pattern>,
    shape: Shape,
) -> Result<Reading, Problem> {
    for name in ["limit", "until", "wait"] {
        let fits = shape == Shape::Json || (shape == Shape::Ndjson && name != "wait");
        if query.get(name).is_some() && !fits {
            let detail = format!(
                "{name} is not for this shape; limit and until are for JSON and NDJSON, wait is for JSON"
            );
            return Err(Problem::bad_request("invalid-parameter", name, detail));
        }
    }
    let types = query
        .all("type")
        .map(|text| EventType::parse(text.to_owned()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| Problem::bad_request("invalid-type", "type", error.detail))?;
    if types.len() > TYPES_MAX {
        let detail = format!("{} types were asked for; at most {TYPES_MAX} are allowed", types.len());
        return Err(Problem::bad_request("invalid-type", "type", detail));
    }
    let exclude_origin =
        query
            .get("exclude_origin")
            .map(|text| Origin::parse(text.to_owned()))
            .transpose()
            .map_err(|error| Problem::bad_request("invalid-origin", "exclude_origin", error.detail))?;
    let limit_max = if shape == Shape::Json { JSON_PAGE_EVENTS_MAX } else { usize::MAX };
    Ok(Reading {
        filter: Arc::new(Filter::new(patterns).with_types(types).without_origin(exclude_origin)),
        start: start::asked_for(request, query)?,
        on_gap: start::on_gap(query)?,
        envelope: query.flag("envelope")?,
        quiet: query.flag("quiet")?,
        limit: number(query, "limit", 1, limit_max)?,
        until: start::until(query)?,
        wait: number(query, "wait", 0, WAIT_SECONDS_MAX)?.map(Duration::from_secs),
    })
}

/// A number in a query: decimal digits, within bounds.
fn number<N>(query: &Query, name: &'static str, min: N, max: N) -> Result<Option<N>, Problem>
where
    N: std::str::FromStr + PartialOrd + std::fmt::Display,
{
    let Some(text) = query.get(name) else { return Ok(None) };
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let value = text.parse().ok().filter(|value| digits && *value >= min && *value <= max);
    value.map(Some).ok_or_else(|| {
        let detail = format!("{name} is {text:?}; it is a whole number from {min} to {max}");
        Problem::bad_request("invalid-parameter", name, detail)
    })
}

impl Reading {
    /// Turns what was asked for into a place.
    pub(crate) async fn open(&self, state: &State) -> Result<Opened, Problem> {
        let opened = state.broker.open(&self.filter, &self.start, self.on_gap).await?;
        state.resumes.count(&self.start, &opened);
        Ok(opened)
    }
}
