//! How configuration values are written: as in policies, with a unit, or as plain integers.
//!
//! Each reader answers with a sentence that says what would be right, for whoever wrote the value.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

/// What a duration without a unit is counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plain {
    Seconds,
    /// Only for `retry`, which is in milliseconds in SSE itself.
    Milliseconds,
}

const MILLIS_OF_UNIT: [(&str, u64); 6] =
    [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000), ("w", 604_800_000)];
const BYTES_OF_UNIT: [(&str, u64); 3] = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];

/// Reads `500ms`, `2s`, `5m`, `24h`, `7d`, `1w` or a plain integer.
pub(crate) fn duration(text: &str, plain: Plain) -> Result<Duration, String> {
    let plain_millis = match plain {
        Plain::Seconds => 1_000,
        Plain::Milliseconds => 1,
    };
    let (digits, unit) = split_unit(text);
    let factor = match unit {
        "" => Some(plain_millis),
        unit => MILLIS_OF_UNIT.iter().find(|(name, _)| *name == unit).map(|(_, millis)| *millis),
    };
    let millis = factor.and_then(|factor| digits.parse::<u64>().ok()?.checked_mul(factor));
    millis.map(Duration::from_millis).ok_or_else(|| {
        let unit = if plain_millis == 1 { "milliseconds" } else { "seconds" };
        format!("{text:?} is not a duration; write a whole number and ms, s, m, h, d or w, as in 500ms or 15s (without a unit it is {unit})")
    })
}

/// Reads `64KiB`, `1MiB`, `2GiB` or a plain integer of bytes.
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    let (digits, unit) = split_unit(text);
    let factor = match unit {
        "" => Some(1),
        unit => BYTES_OF_UNIT.iter().find(|(name, _)| *name == unit).map(|(_, bytes)| *bytes),
    };
    factor.and_then(|factor| digits.parse::<u64>().ok()?.checked_mul(factor)).ok_or_else(|| {
        format!("{text:?} is not a size; write a whole number and KiB, MiB or GiB, as in 256KiB (without a unit it is bytes)")
    })
}

/// Reads a plain integer.
pub(crate) fn count(text: &str) -> Result<u64, String> {
    let (digits, unit) = split_unit(text);
    let number = digits.parse().ok().filter(|_| unit.is_empty());
    number.ok_or_else(|| format!("{text:?} is not a whole number, as in 1000"))
}

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

/// Reads web origins, split by commas, as a browser sends them in `Origin`.
pub(crate) fn origins(text: &str) -> Result<Vec<String>, String> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(origin).collect()
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

/// Writes a duration in the largest unit that divides it.
pub(crate) fn show_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    let (unit, factor) = MILLIS_OF_UNIT
        .iter()
        .rev()
        .find(|(_, f)| millis.is_multiple_of(u128::from(*f)))
        .unwrap_or(&("ms", 1));
    match millis {
        0 => "0ms".to_owned(),
        _ => format!("{}{unit}", millis / u128::from(*factor)),
    }
}

/// Writes a size in the largest unit that divides it.
pub(crate) fn show_bytes(bytes: u64) -> String {
    match BYTES_OF_UNIT.iter().rev().find(|(_, factor)| bytes != 0 && bytes.is_multiple_of(*factor)) {
        Some((unit, factor)) => format!("{}{unit}", bytes / factor),
        None => bytes.to_string(),
    }
}

/// Splits at the end of the leading ASCII digits.
fn split_unit(text: &str) -> (&str, &str) {
    text.split_at(text.bytes().position(|b| !b.is_ascii_digit()).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units_and_a_plain_meaning() {
        let seconds = |text| duration(text, Plain::Seconds);
        for (text, millis) in [
            ("500ms", 500),
            ("2s", 2_000),
            ("2", 2_000),
            ("5m", 300_000),
            ("24h", 86_400_000),
            ("1w", 604_800_000),
        ] {
            assert_eq!(seconds(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        assert_eq!(seconds("7d"), seconds("1w"));
        assert_eq!(duration("1500", Plain::Milliseconds), Ok(Duration::from_millis(1_500)));
        for text in
            ["", "s", "-1s", "1.5s", "2 s", "2S", "2sec", "99999999999999999999", "18446744073709551615w"]
        {
            assert!(seconds(text).unwrap_err().contains("as in"), "{text}");
        }
    }

    #[test]
    fn sizes_have_binary_units_only() {
        for (text, size) in [("0", 0), ("17", 17), ("256KiB", 262_144), ("1MiB", 1 << 20), ("2GiB", 2 << 30)]
        {
            assert_eq!(bytes(text), Ok(size), "{text}");
        }
        for text in ["", "KiB", "1KB", "1kib", "1.5MiB", "-1", "1 MiB", "18446744073709551615GiB"] {
            assert!(bytes(text).unwrap_err().contains("KiB, MiB or GiB"), "{text}");
        }
    }

    #[test]
    fn what_is_shown_reads_back() {
        for text in ["1ms", "1500ms", "90s", "24h", "8d", "2w"] {
            let value = duration(text, Plain::Seconds).unwrap();
            assert_eq!(duration(&show_duration(value), Plain::Seconds), Ok(value));
        }
        for text in ["0", "17", "1KiB", "3MiB", "1GiB"] {
            assert_eq!(show_bytes(bytes(text).unwrap()), text);
        }
    }

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
