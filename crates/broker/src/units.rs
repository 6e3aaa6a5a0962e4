//! How durations, sizes and counts are written, in policies and in the configuration: with a unit, or as plain integers.
//!
//! Each reader answers with a sentence that says what would be right, for whoever wrote the value.

use std::time::Duration;

/// What a duration without a unit is counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plain {
    /// Everywhere but where a standard counts otherwise.
    Seconds,
    /// As `retry` is in SSE itself.
    Milliseconds,
}

const MILLIS_OF_UNIT: [(&str, u64); 6] =
    [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000), ("w", 604_800_000)];
const BYTES_OF_UNIT: [(&str, u64); 3] = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];

/// Reads `500ms`, `2s`, `5m`, `24h`, `7d`, `1w` or a plain integer.
pub fn duration(text: &str, plain: Plain) -> Result<Duration, String> {
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
pub fn bytes(text: &str) -> Result<u64, String> {
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
pub fn count(text: &str) -> Result<u64, String> {
    let (digits, unit) = split_unit(text);
    let number = digits.parse().ok().filter(|_| unit.is_empty());
    number.ok_or_else(|| format!("{text:?} is not a whole number, as in 1000"))
}

/// Writes a duration in the largest unit that divides it.
pub fn show_duration(duration: Duration) -> String {
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
pub fn show_bytes(bytes: u64) -> String {
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
    fn counts_have_no_units() {
        assert_eq!(count("1000"), Ok(1_000));
        for text in ["", "-1", "1k", "1.5", " 1", "18446744073709551616"] {
            assert!(count(text).unwrap_err().contains("whole number"), "{text}");
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
}
