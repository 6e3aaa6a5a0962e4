//! An event as one line of JSON.
//!
//! Its `data` is embedded byte for byte when it is a JSON object, array, number, `true`, `false` or `null` without outer
//! white space and without CR or LF; anything else, JSON strings too, is a JSON string of the exact text. So what reads
//! an envelope and publishes its fields again publishes exactly the same data.

use std::io::Write;

use event_log::{Epoch, Event, EventId, EventView, Timestamp};
use serde::de::IgnoredAny;
use uuid::Uuid;

/// Whether data stands in an envelope as it is.
pub(crate) fn is_embedded(data: &str) -> bool {
    let bytes = data.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    // The cheap questions first: what begins like text, or has a line end, need not be parsed.
    let may_begin = matches!(first, b'{' | b'[' | b'-' | b'0'..=b'9' | b't' | b'f' | b'n');
    may_begin
        && !last.is_ascii_whitespace()
        && memchr::memchr2(b'\r', b'\n', bytes).is_none()
        && serde_json::from_str::<IgnoredAny>(data).is_ok()
}

/// An id as its `Display` writes it, which would be a third of the cost of a small frame.
pub(crate) fn write_event_id(buffer: &mut Vec<u8>, id: EventId) {
    write_number(buffer, id.position.get());
    if let Some(epoch) = id.epoch {
        let digit = |nibble: u32| b"0123456789abcdef"[(epoch.get() >> (4 * nibble) & 0xf) as usize];
        let [a, b, c, d, e, f, g, h] = [7, 6, 5, 4, 3, 2, 1, 0].map(digit);
        buffer.extend_from_slice(&[b'-', a, b, c, d, e, f, g, h]);
    }
}

/// A number, in decimal digits.
pub(crate) fn write_number(buffer: &mut Vec<u8>, number: u64) {
    buffer.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Everything of the envelope before the data's value.
pub(crate) fn write_before_data(buffer: &mut Vec<u8>, event: &EventView<'_>, epoch: Epoch) {
    buffer.extend_from_slice(b"{\"id\":\"");
    write_event_id(buffer, EventId::new(event.position, epoch));
    buffer.extend_from_slice(b"\",\"topic\":");
    write_text(buffer, event.topic);
    buffer.extend_from_slice(b",\"type\":");
    write_text(buffer, event.type_name());
    buffer.extend_from_slice(b",\"key\":");
    write_optional(buffer, event.key);
    buffer.extend_from_slice(b",\"origin\":");
    write_optional(buffer, event.origin);
    write_identity(buffer, event.time, event.uuid);
    buffer.extend_from_slice(b",\"data\":");
}

/// When an event came to be, and its identity, behind other fields.
pub(crate) fn write_identity(buffer: &mut Vec<u8>, time: Timestamp, uuid: Uuid) {
    // Writing to memory cannot fail.
    let _ = write!(buffer, ",\"time\":\"{time}\",\"uuid\":\"");
    buffer.extend_from_slice(uuid.as_hyphenated().encode_lower(&mut Uuid::encode_buffer()).as_bytes());
    buffer.push(b'"');
}

/// The whole envelope, without a line end.
pub(crate) fn write(buffer: &mut Vec<u8>, event: &Event, epoch: Epoch) {
    let event = event.view();
    write_before_data(buffer, &event, epoch);
    match is_embedded(event.data) {
        true => buffer.extend_from_slice(event.data.as_bytes()),
        false => write_text(buffer, event.data),
    }
    buffer.push(b'}');
}

/// A JSON string.
pub(crate) fn write_text(buffer: &mut Vec<u8>, text: &str) {
    buffer.push(b'"');
    write_escaped(buffer, text);
    buffer.push(b'"');
}

/// What stands between the quotes of a JSON string. Pieces of a text that are written one after the other give the same
/// as the whole text.
pub(crate) fn write_escaped(buffer: &mut Vec<u8>, text: &str) {
    // Without an early end, so that it is done for many bytes at a time.
    let is_plain = text
        .bytes()
        .fold(true, |is_plain, byte| is_plain & (byte >= b' ') & (byte != b'"') & (byte != b'\\'));
    if is_plain {
        return buffer.extend_from_slice(text.as_bytes());
    }
    let quoted = serde_json::to_string(text).unwrap_or_default();
    buffer.extend_from_slice(&quoted.as_bytes()[1..quoted.len() - 1]);
}

fn write_optional(buffer: &mut Vec<u8>, text: Option<&str>) {
    match text {
        Some(text) => write_text(buffer, text),
        None => buffer.extend_from_slice(b"null"),
    }
}

#[cfg(test)]
mod tests {
    use event_log::Position;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn text_is_escaped_as_serde_json_does(text: String) {
            let mut written = Vec::new();
            write_text(&mut written, &text);
            prop_assert_eq!(String::from_utf8(written).unwrap(), serde_json::to_string(&text).unwrap());
        }

        #[test]
        fn an_id_is_written_as_it_is_displayed(position: u64, shift in 0u32..64, epoch: Option<u32>) {
            let id = EventId { position: Position::new(position >> shift), epoch: epoch.map(Epoch::new) };
            let mut written = Vec::new();
            write_event_id(&mut written, id);
            prop_assert_eq!(String::from_utf8(written).unwrap(), id.to_string());
        }
    }

    #[test]
    fn json_but_strings_is_embedded_and_all_else_is_a_string() {
        for data in
            ["{}", "[1, 2]", "{\"a\": {}}", "-1.5e9", "0", "true", "false", "null", "{\"a\":\"\\ud800\"}"]
        {
            assert!(is_embedded(data), "{data}");
        }
        for data in
            ["", "\"text\"", " 1", "1 ", "{}\n", "[1,\n2]", "[1,\r2]", "01", "nul", "{", "text", "NaN", "1 2"]
        {
            assert!(!is_embedded(data), "{data}");
        }
        let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        assert!(is_embedded(&deep));
    }
}
