//! A request's query, read strictly: a typing error never reads as "no filter".

use std::borrow::Cow;

use actix_web::HttpRequest;
use actix_web::http::StatusCode;
use event_log::limits::QUERY_BYTES_MAX;

use crate::path::decode;
use crate::problem::Problem;

/// A parameter that a resource documents.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Param {
    /// It may be given once.
    Once(&'static str),
    /// It may be given many times.
    Repeatable(&'static str),
}

impl Param {
    fn name(self) -> &'static str {
        match self {
            Param::Once(name) | Param::Repeatable(name) => name,
        }
    }
}

/// The parameters that were given, in order.
#[derive(Debug)]
pub(crate) struct Query(Vec<(&'static str, String)>);

impl Query {
    /// Reads the query as a form (`+` is a space), and refuses what the resource does not document.
    pub(crate) fn parse(request: &HttpRequest, documented: &[Param]) -> Result<Self, Problem> {
        Self::parse_text(request.uri().query().unwrap_or_default(), documented)
    }

    /// The same for a query's text.
    pub(crate) fn parse_text(text: &str, documented: &[Param]) -> Result<Self, Problem> {
        if text.len() > QUERY_BYTES_MAX {
            let detail = format!("the query has {} bytes; at most {QUERY_BYTES_MAX} are read", text.len());
            return Err(Problem::new(StatusCode::URI_TOO_LONG, "query-too-long", detail));
        }
        let mut given: Vec<(&'static str, String)> = Vec::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decode_form(name, name)?;
            let known = documented.iter().find(|param| param.name() == name);
            let param = *known.ok_or_else(|| unknown(&name, documented))?;
            let value = decode_form(value, param.name())?.into_owned();
            if matches!(param, Param::Once(_)) && given.iter().any(|(other, _)| *other == param.name()) {
                let detail = format!("parameter {name:?} is given twice; it may be given once");
                return Err(Problem::bad_request("repeated-parameter", &name, detail));
            }
            given.push((param.name(), value));
        }
        Ok(Query(given))
    }

    /// The value of a parameter that may be given once.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(other, _)| *other == name).map(|(_, value)| value.as_str())
    }

    /// All values of a parameter.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(other, _)| *other == name).map(|(_, value)| value.as_str())
    }

    /// A parameter that is `true` or `false`; absent is `false`.
    pub(crate) fn flag(&self, name: &str) -> Result<bool, Problem> {
        match self.get(name) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(other) => {
                let detail = format!("parameter {name:?} is {other:?}; it is true or false");
                Err(Problem::bad_request("invalid-parameter", name, detail))
            }
        }
    }
}

fn decode_form<'a>(text: &'a str, field: &str) -> Result<Cow<'a, str>, Problem> {
    match text.contains('+') {
        // Escapes are decoded after: an escaped plus stays one.
        true => Ok(Cow::Owned(decode(&text.replace('+', " "), field)?.into_owned())),
        false => decode(text, field),
    }
}

fn unknown(name: &str, documented: &[Param]) -> Problem {
    let names: Vec<&str> = documented.iter().map(|param| param.name()).collect();
    let detail = match names.is_empty() {
        true => format!("parameter {name:?} is not known here; this resource takes none"),
        false => format!("parameter {name:?} is not known here; known are {}", names.join(", ")),
    };
    Problem::bad_request("unknown-parameter", name, detail)
}

#[cfg(test)]
mod tests;
