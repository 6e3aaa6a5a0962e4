use event_log::contract::event;
use event_log::limits::{NAME_BYTES_MAX, SMALL_EVENT_BYTES_MAX};
use event_log::{EventType, Key, NewEvent, Origin, Position, Replayed, Timestamp};
use uuid::Uuid;

use super::*;

fn framed(new: NewEvent, envelope: bool, retry_ms: Option<u64>) -> String {
    let event =
        Arc::new(Event::place(new, Position::new(58), Timestamp::from_micros(1_000_001), Uuid::nil()));
    let framer = Framer { epoch: Epoch::new(0x7f3a_9c1e), envelope };
    let bytes = match framer.frame(&event, &Memo::default(), retry_ms) {
        Frame::Whole(bytes) => bytes.to_vec(),
        Frame::Large(first, pieces) => joined(&first, pieces),
    };
    // The same behind what stands in a buffer already, however the event is held.
    let recent = Recent { event: Arc::clone(&event), memo: Memo::default() };
    let written = |write: &dyn Fn(&mut Vec<u8>) -> Option<Pieces>| {
        let mut buffer = b"before".to_vec();
        let pieces = write(&mut buffer);
        let behind = pieces.map_or_else(|| buffer.clone(), |pieces| joined(&buffer, pieces));
        behind.strip_prefix(b"before").unwrap().to_vec()
    };
    assert_eq!(written(&|buffer| framer.write(&recent, retry_ms, buffer)), bytes);
    assert_eq!(written(&|buffer| framer.write_first(&event, retry_ms, buffer)), bytes);
    let view = event.view();
    if Replayed::is_small(view.data.len() + view.topic.len()) {
        let mut buffer = b"before".to_vec();
        framer.encode(&view, &mut buffer);
        if let Some(retry_ms) = retry_ms {
            insert_retry(&mut buffer, b"before".len(), retry_ms);
        }
        assert!(buffer.strip_prefix(b"before").is_some_and(|behind| behind == bytes));
    }
    String::from_utf8(bytes).unwrap()
}

fn joined(first: &[u8], mut pieces: Pieces) -> Vec<u8> {
    let mut all = first.to_vec();
    while !pieces.is_done() {
        let piece = pieces.next_piece();
        assert!(piece.len() <= FRAME_PIECE_BYTES_MAX + 6 * ESCAPED_BYTES + 512, "{}", piece.len());
        all.extend_from_slice(&piece);
    }
    all
}

fn plain(data: &str) -> String {
    framed(event("a", data), false, None)
}

#[test]
fn a_block_is_event_retry_data_id() {
    let typed =
        NewEvent { event_type: Some(EventType::parse("trade").unwrap()), ..event("a", "{\"price\": 182.3}") };
    let expected = "event: trade\nretry: 2000\ndata: {\"price\": 182.3}\nid: 58-7f3a9c1e\n\n";
    assert_eq!(framed(typed, false, Some(2_000)), expected);
    assert_eq!(plain("x"), "data: x\nid: 58-7f3a9c1e\n\n");
}

#[test]
fn every_line_end_inside_data_ends_a_line() {
    for (data, lines) in [
        ("", "data: \n"),
        ("a\nb", "data: a\ndata: b\n"),
        ("a\rb", "data: a\ndata: b\n"),
        ("a\r\nb", "data: a\ndata: b\n"),
        ("a\n\rb", "data: a\ndata: \ndata: b\n"),
        ("\n", "data: \ndata: \n"),
        ("a\r\n", "data: a\ndata: \n"),
        (" a", "data:  a\n"),
        ("x\nid: 9\nevent: y\n\nz", "data: x\ndata: id: 9\ndata: event: y\ndata: \ndata: z\n"),
    ] {
        assert_eq!(plain(data), format!("{lines}id: 58-7f3a9c1e\n\n"), "{data:?}");
    }
}

#[test]
fn an_envelope_is_one_line_of_json() {
    let block = framed(event("a.b", "[1, 2]"), true, None);
    let expected = "data: {\"id\":\"58-7f3a9c1e\",\"topic\":\"a.b\",\"type\":\"message\",\"key\":null,\"origin\":null,\
                    \"time\":\"1970-01-01T00:00:01.000001Z\",\"uuid\":\"00000000-0000-0000-0000-000000000000\",\
                    \"data\":[1, 2]}\nid: 58-7f3a9c1e\n\n";
    assert_eq!(block, expected);
    assert!(framed(event("a", "x\r\n\"y\""), true, None).contains("\"data\":\"x\\r\\n\\\"y\\\"\"}\nid"));
}

#[test]
fn large_frames_come_in_pieces_that_give_the_same() {
    let texts =
        ["\n".repeat(256 * KIB), "\r\n".repeat(100_000), "\u{1}é\n".repeat(60_000), "x".repeat(256 * KIB)];
    for text in texts {
        let lines: String =
            text.replace("\r\n", "\n").split('\n').map(|line| format!("data: {line}\n")).collect();
        assert_eq!(plain(&text), format!("{lines}id: 58-7f3a9c1e\n\n"));
        let block = framed(event("a", &text), true, None);
        let json: serde_json::Value =
            serde_json::from_str(block.strip_prefix("data: ").unwrap().split_once("\nid: ").unwrap().0)
                .unwrap();
        assert_eq!(json["data"].as_str().unwrap(), text);
    }
}

#[test]
fn what_is_laid_into_a_page_makes_a_frame_of_one_piece_whatever_is_escaped() {
    for letter in ["\n", "\u{1}", "\"", "\r"] {
        let name = letter.replace(['\n', '\r'], "\u{2}").repeat(NAME_BYTES_MAX);
        let data = letter.repeat(SMALL_EVENT_BYTES_MAX - 2 * NAME_BYTES_MAX - 1);
        let key = Some(Key::parse(name.clone()).unwrap());
        let event = NewEvent { key, origin: Some(Origin::parse(name).unwrap()), ..event("a", &data) };
        assert!(!framed(event.clone(), false, Some(u64::MAX)).is_empty());
        assert!(framed(event, true, Some(u64::MAX)).len() <= FRAME_PIECE_BYTES_MAX);
    }
}

#[test]
fn a_frame_is_made_once_for_all_readers() {
    let placed = Event::place(event("a", "x"), Position::new(1), Timestamp::default(), Uuid::nil());
    let (event, memo) = (Arc::new(placed), Memo::default());
    let framer = Framer { epoch: Epoch::new(1), envelope: false };
    let mut pointers = Vec::new();
    for _ in 0..2 {
        let Frame::Whole(bytes) = framer.frame(&event, &memo, None) else { panic!("a small frame") };
        pointers.push(bytes.as_ptr());
    }
    assert_eq!(pointers[0], pointers[1]);
    let Frame::Whole(first) = framer.frame(&event, &memo, Some(5)) else { panic!("a small frame") };
    assert!(first.starts_with(b"retry: 5\n"));
}
