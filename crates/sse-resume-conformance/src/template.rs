//! `{name}` stands for a value, `{name:json}` for it as a JSON string with its quotes, `{name:form}` for it as a value of a
//! form or a query. Braces around anything else are text, so that JSON can be written as it is. `${NAME}` and `${NAME:-default}`
//! are the environment's.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

/// Fills in the places of a text. A name that nobody knows is an error, not a text.
pub(crate) fn fill(template: &str, values: &[(&str, &str)]) -> Result<String> {
    let mut filled = String::with_capacity(template.len());
    let mut rest = template;
    while let Some(open) = rest.find('{') {
        filled.push_str(&rest[..open]);
        rest = &rest[open..];
        match placeholder(rest) {
            Some((name, form, length)) => {
                let value = values.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
                let value = value.with_context(|| format!("{{{name}}} means nothing in {template:?}"))?;
                filled.push_str(&written(value, form)?);
                rest = &rest[length..];
            }
            None => {
                filled.push('{');
                rest = &rest[1..];
            }
        }
    }
    filled.push_str(rest);
    Ok(filled)
}

/// The name, the form and the length of a placeholder at the beginning of a text.
fn placeholder(text: &str) -> Option<(&str, &str, usize)> {
    let inner = text.strip_prefix('{')?;
    let end = inner.find('}')?;
    let (name, form) = inner[..end].split_once(':').unwrap_or((&inner[..end], ""));
    let is_name = |text: &str| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    };
    (is_name(name) && (form.is_empty() || is_name(form))).then_some((name, form, end + 2))
}

fn written(value: &str, form: &str) -> Result<String> {
    match form {
        "" => Ok(value.to_owned()),
        "json" => Ok(serde_json::to_string(value)?),
        "form" => Ok(utf8_percent_encode(value, NON_ALPHANUMERIC).to_string()),
        other => bail!("a value can be written as json or form, not as {other:?}"),
    }
}

/// Fills in what is written as `${NAME}` or `${NAME:-default}`.
pub(crate) fn expand(text: &str, variables: &BTreeMap<String, String>) -> Result<String> {
    let mut expanded = String::new();
    let mut rest = text;
    while let Some(open) = rest.find("${") {
        let end =
            rest[open..].find('}').with_context(|| format!("a brace is not closed in {text:?}"))? + open;
        let (name, default) = match rest[open + 2..end].split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (&rest[open + 2..end], None),
        };
        let given = variables.get(name).cloned().or_else(|| std::env::var(name).ok());
        let value = given.or_else(|| default.map(str::to_owned));
        expanded.push_str(&rest[..open]);
        expanded.push_str(&value.with_context(|| format!("the environment variable {name} is not set"))?);
        rest = &rest[end + 1..];
    }
    expanded.push_str(rest);
    Ok(expanded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_filled_in_and_json_is_left_alone() {
        let values = [("topic", "a"), ("payload", "say \"hi\"\r&"), ("port", "80")];
        let filled = |text| fill(text, &values).unwrap();
        assert_eq!(filled(r#"{"t":"{topic}","d":{payload:json}}"#), r#"{"t":"a","d":"say \"hi\"\r&"}"#);
        assert_eq!(filled("data={payload:form}&{}{ }{Port}"), "data=say%20%22hi%22%0D%26&{}{ }{Port}");
        assert!(fill("{nobody}", &values).is_err());
        assert!(fill("{topic:xml}", &values).is_err());
    }

    #[test]
    fn variables_come_from_those_given_then_the_environment_then_the_default() {
        let given = BTreeMap::from([("SUITE_GIVEN".to_owned(), "x".to_owned())]);
        assert_eq!(expand("a${SUITE_GIVEN}b${SUITE_OTHER:-c}", &given).unwrap(), "axbc");
        assert!(expand("${SUITE_OTHER}", &given).is_err());
        assert!(expand("${SUITE_GIVEN", &given).is_err());
    }
}
