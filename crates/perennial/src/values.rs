//! How configuration values are written that policies do not have; the others are read by [`broker::units`].
//!
//! Each reader answers with a sentence that says what would be right, for whoever wrote the value.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use event_log::Pattern;

/// Reads how often something happens in a second.
pub(crate) fn rate(text: &str) -> Result<f64, String> {
    let rate: Option<f64> = text.parse().ok().filter(|rate| (0.1..=200.0).contains(rate));
    rate.ok_or_else(|| format!("{text:?} is not a rate from 0.1 to 200 a second, as in 10 or 2.5"))
}

/// Reads one of a few words.
pub(crate) fn word<T: Copy>(text: &str, words: &[(&str, T)]) -> Result<T, String> {
    words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value).ok_or_else(|| {
        let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        format!("{text:?} is none of: {}", words.join(", "))
    })
}

/// Reads the path of a file; nothing is none.
pub(crate) fn file(text: &str) -> Result<Option<PathBuf>, String> {
    Ok((!text.is_empty()).then(|| PathBuf::from(text)))
}

/// The items of a list with commas.
pub(crate) fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty())
}

/// Reads patterns, split by commas.
pub(crate) fn patterns(text: &str) -> Result<Vec<Pattern>, String> {
    list(text).map(|item| Pattern::parse(item.to_owned()).map_err(|invalid| invalid.detail)).collect()
}

/// Reads web origins, split by commas, as a browser sends them in `Origin`.
pub(crate) fn origins(text: &str) -> Result<Vec<String>, String> {
    list(text).map(origin).collect()
}

fn origin(text: &str) -> Result<String, String> {
    let valid = text.split_once("://").is_some_and(|(scheme, host)| {
        let scheme =
            !scheme.is_empty() && scheme.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        let host_byte = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b".-_:[]".contains(&b);
        scheme && !host.is_empty() && host.bytes().all(host_byte)
    });
    valid.then(|| text.to_owned()).ok_or_else(|| {
        format!(
            "{text:?} is not a web origin; write scheme, host and port as a browser sends them, in lower case and \
             without a path, as in https://app.example.com or http://10.0.0.5:3000"
        )
    })
}

/// Checks a value against its range; `show` writes the ends as the user would.
pub(crate) fn within<T: PartialOrd + Copy, S: Display>(
    value: T,
    range: RangeInclusive<T>,
    show: impl Fn(T) -> S,
) -> Result<T, String> {
    match range.contains(&value) {
        true => Ok(value),
        false => Err(format!(
            "{} is out of range; it may be {} to {}",
            show(value),
            show(*range.start()),
            show(*range.end())
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_written_as_browsers_send_them() {
        assert_eq!(origins("").unwrap(), Vec::<String>::new());
        assert_eq!(
            origins("https://a.example, http://10.0.0.5:3000").unwrap(),
            ["https://a.example", "http://10.0.0.5:3000"]
        );
        for text in ["*", "a.example", "https://a.example/", "https://A.example", "null", "https://"] {
            assert!(origins(text).unwrap_err().contains("as in https://"), "{text}");
        }
    }

    #[test]
    fn a_value_out_of_range_names_the_range() {
        assert_eq!(within(5, 1..=9, |n| n), Ok(5));
        assert_eq!(within(10, 1..=9, |n| n).unwrap_err(), "10 is out of range; it may be 1 to 9");
    }
}
