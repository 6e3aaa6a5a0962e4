//! The data of the events that the suite publishes. It names its topic and its place, and what follows is derived from
//! them, so that an event that is cut, joined or mixed with another is found out.

/// The data of a topic's event `n`, with about so many bytes.
pub(crate) fn payload(topic: &str, n: u64, bytes: usize) -> String {
    let mut text = format!("{topic} {n} ");
    let filling = bytes.saturating_sub(text.len() + 7).max(1);
    text.push_str(&format!("{filling} "));
    let start = usize::try_from(n % 26).unwrap_or_default();
    text.extend((0..filling).map(|i| char::from(LETTERS[(start + i) % 26])));
    text
}

/// The topic and place that data names, if the data is whole.
pub(crate) fn read(data: &str) -> Result<(&str, u64), String> {
    let mut parts = data.splitn(4, ' ');
    let (topic, n, filling) = (parts.next(), parts.next(), parts.next());
    let number = |text: Option<&str>| text.and_then(|text| text.parse::<u64>().ok());
    let (Some(topic), Some(n), Some(filling), Some(rest)) = (topic, number(n), number(filling), parts.next())
    else {
        return Err(format!("data came that nobody published: {}", shown(data)));
    };
    if rest.len() as u64 != filling {
        return Err(format!("event {n} came torn: {} bytes of {filling}", rest.len()));
    }
    let start = usize::try_from(n % 26).unwrap_or_default();
    let whole = rest.bytes().enumerate().all(|(i, byte)| byte == LETTERS[(start + i) % 26]);
    if whole { Ok((topic, n)) } else { Err(format!("event {n} came with other bytes than were published")) }
}

/// What was published, from what came: some hubs send it as a JSON string.
pub(crate) fn published(data: String, is_json: bool) -> String {
    if !is_json {
        return data;
    }
    serde_json::from_str(&data).unwrap_or(data)
}

/// The beginning of a text, for a message of one line.
pub(crate) fn shown(text: &str) -> String {
    let short: String = text.chars().take(40).collect();
    let more = if short.len() < text.len() { "…" } else { "" };
    format!("{short:?}{more}")
}

const LETTERS: &[u8; 26] = b"abcdefghijklmnopqrstuvwxyz";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_that_is_not_whole_is_found_out() {
        let text = payload("a", 7, 100);
        assert!((90..=110).contains(&text.len()));
        assert_eq!(read(&text), Ok(("a", 7)));
        assert_eq!(read(&payload("a", 8, 0)), Ok(("a", 8)));
        for cut in 0..text.len() {
            assert!(read(&text[..cut]).is_err(), "{cut}");
        }
        assert!(read(&text.replace('c', "x")).is_err());
        assert!(read(&(text.clone() + &text)).is_err());
    }
}
