//! Halves of surrogate pairs that stand alone. JSON's grammar lets them be written, but they are no characters: no UTF-8
//! has them, and many a reader of JSON refuses the whole text for one.

use std::ops::RangeInclusive;

const HIGH: RangeInclusive<u16> = 0xd800..=0xdbff;
const LOW: RangeInclusive<u16> = 0xdc00..=0xdfff;

/// Whether an escape of this JSON is half of a pair without the other half.
pub(super) fn has_lone(json: &str) -> bool {
    let mut rest = json.as_bytes();
    while let Some(place) = memchr::memchr(b'\\', rest) {
        let escape = &rest[place..];
        let length = match code_unit(escape) {
            Some(unit) if HIGH.contains(&unit) => match code_unit(&escape[6..]) {
                Some(next) if LOW.contains(&next) => 12,
                _ => return true,
            },
            Some(unit) if LOW.contains(&unit) => return true,
            Some(_) => 6,
            None => 2,
        };
        rest = escape.get(length..).unwrap_or_default();
    }
    false
}

/// The number of an escape such as `\u00e9` at the beginning of a text.
fn code_unit(text: &[u8]) -> Option<u16> {
    let digits = text.strip_prefix(b"\\u")?.get(..4)?;
    digits.iter().try_fold(0, |unit: u16, digit| {
        let value = char::from(*digit).to_digit(16)?;
        Some(unit << 4 | u16::try_from(value).ok()?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_halves_without_their_other_half_are_found() {
        for (json, lone) in [
            (r#""plain""#, false),
            (r#""\ud83d\ude80""#, false),
            (r#""\uD83D\uDE80 twice \uD83D\uDE80""#, false),
            (r#""\u00e9\n\\""#, false),
            (r#""\\ud800""#, false),
            (r#""\\\\ud800""#, false),
            (r#""\ud800""#, true),
            (r#""\udc00""#, true),
            (r#""\ude80\ud83d""#, true),
            (r#""\ud83d\ud83d\ude80""#, true),
            (r#""\ud83d x\ude80""#, true),
            (r#""\\\ud800""#, true),
            (r#"{"a":["\ud83d\u0041"]}"#, true),
            (r#""\ud83d"#, true),
            (r#""\u12"#, false),
            (r#""\"#, false),
        ] {
            assert_eq!(has_lone(json), lone, "{json}");
        }
    }
}
