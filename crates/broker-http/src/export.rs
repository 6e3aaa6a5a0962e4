//! `GET /v1/export`: the whole log as an archive, while publishing goes on.
//!
//! It is made as its socket takes it, a little at a time. What goes wrong under way breaks the connection; and an archive
//! without its last line is not taken for a whole one by anybody who reads it.

use std::collections::VecDeque;
use std::sync::Arc;

use actix_web::body::BodyStream;
use actix_web::http::Method;
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use event_log::limits::PAGE_BYTES_MAX;
use event_log::{Item, ReadError};
use futures_util::stream::{self, BoxStream};
use futures_util::{Stream, StreamExt, TryStreamExt};

use crate::accept::Shape;
use crate::archive::Writer;
use crate::pages;
use crate::problem::Problem;
use crate::query::Query;
use crate::state::State;

/// Begins an archive of the log as it is now: its items, a bounded number at a time.
pub type Archives = Arc<dyn Fn() -> BoxStream<'static, Result<Vec<Item>, ReadError>> + Send + Sync>;

pub(crate) async fn export(request: HttpRequest, state: web::Data<State>) -> Result<HttpResponse, Problem> {
    Query::parse(&request, &[])?;
    let Some(archives) = &state.options.archives else {
        return Err(Problem::not_found("no-archives", "the engine below this broker makes no archives"));
    };
    let mut response = pages::headers(Shape::Ndjson);
    if request.method() == Method::HEAD {
        return Ok(response.streaming(stream::empty::<Result<Bytes, ReadError>>()));
    }
    Ok(response.body(BodyStream::new(text(archives()).map_err(pages::broken_off))))
}

struct Text {
    items: BoxStream<'static, Result<Vec<Item>, ReadError>>,
    taken: VecDeque<Item>,
    writer: Writer,
}

/// The lines of an archive, in pieces of a page.
fn text(
    items: BoxStream<'static, Result<Vec<Item>, ReadError>>,
) -> impl Stream<Item = Result<Bytes, ReadError>> {
    let text = Text { items, taken: VecDeque::new(), writer: Writer::default() };
    stream::try_unfold(text, |mut text| async move {
        let mut lines = Vec::new();
        while lines.len() < PAGE_BYTES_MAX {
            match text.taken.pop_front() {
                Some(item) => text.writer.write(&mut lines, &item),
                None => match text.items.next().await.transpose()? {
                    Some(items) => text.taken.extend(items),
                    None => break,
                },
            }
        }
        Ok((!lines.is_empty()).then(|| (Bytes::from(lines), text)))
    })
}

#[cfg(test)]
mod tests;
