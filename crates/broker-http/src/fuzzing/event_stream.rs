//! A reader of `text/event-stream`, written from the WHATWG's text alone (HTML, 9.2.5 and 9.2.6), step by step. It knows nothing
//! of how the broker writes.

/// An event as a page gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) event_type: String,
    pub(super) data: String,
    pub(super) last_event_id: String,
}

/// What is kept between two pieces of a stream.
#[derive(Debug, Default)]
pub(super) struct EventStream {
    /// Bytes of a line that has not ended.
    line: Vec<u8>,
    /// The last line ended with a CR: an LF that follows belongs to it.
    after_cr: bool,
    /// The first line was read, so a byte order mark is no mark any more.
    begun: bool,
    data: String,
    event_type: String,
    id: String,
    last_event_id: String,
    /// The time to wait before coming back.
    pub(super) retry: Option<u64>,
    pub(super) messages: Vec<Message>,
    pub(super) comments: usize,
}

impl EventStream {
    /// Takes the next piece.
    pub(super) fn take(&mut self, bytes: &[u8]) {
        for byte in bytes {
            let is_second_half = std::mem::take(&mut self.after_cr) && *byte == b'\n';
            match byte {
                _ if is_second_half => {}
                b'\r' | b'\n' => {
                    self.after_cr = *byte == b'\r';
                    let line = std::mem::take(&mut self.line);
                    self.end_of_line(&line);
                }
                _ => self.line.push(*byte),
            }
        }
    }

    /// Whether the stream stands at the end of a block: nothing would be lost if it ended here.
    pub(super) fn is_between_blocks(&self) -> bool {
        self.line.is_empty() && self.data.is_empty() && self.event_type.is_empty()
    }

    fn end_of_line(&mut self, line: &[u8]) {
        let line = String::from_utf8_lossy(line);
        let line = match std::mem::replace(&mut self.begun, true) {
            true => &*line,
            false => line.strip_prefix('\u{feff}').unwrap_or(&line),
        };
        match line.split_once(':') {
            _ if line.is_empty() => self.dispatch(),
            Some(("", _)) => self.comments += 1,
            Some((field, value)) => self.field(field, value.strip_prefix(' ').unwrap_or(value)),
            None => self.field(line, ""),
        }
    }

    fn field(&mut self, name: &str, value: &str) {
        match name {
            "event" => value.clone_into(&mut self.event_type),
            "data" => {
                self.data.push_str(value);
                self.data.push('\n');
            }
            "id" if !value.contains('\0') => value.clone_into(&mut self.id),
            "retry" if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) => {
                self.retry = value.parse().ok();
            }
            _ => {}
        }
    }

    fn dispatch(&mut self) {
        self.last_event_id.clone_from(&self.id);
        if self.data.is_empty() {
            return self.event_type.clear();
        }
        let mut data = std::mem::take(&mut self.data);
        if data.ends_with('\n') {
            data.pop();
        }
        let event_type = match std::mem::take(&mut self.event_type) {
            name if name.is_empty() => "message".to_owned(),
            name => name,
        };
        let last_event_id = self.last_event_id.clone();
        self.messages.push(Message { event_type, data, last_event_id });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> EventStream {
        let mut stream = EventStream::default();
        stream.take(text.as_bytes());
        stream
    }

    /// The examples of the text itself.
    #[test]
    fn the_examples_of_the_specification_are_read_as_it_says() {
        let datas = |text: &str| -> Vec<String> {
            read(text).messages.into_iter().map(|message| message.data).collect()
        };
        assert_eq!(datas("data: YHOO\ndata: +2\ndata: 10\n\n"), ["YHOO\n+2\n10"]);
        let ids = read(
            ": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n",
        );
        let seen: Vec<(&str, &str)> =
            ids.messages.iter().map(|message| (&*message.data, &*message.last_event_id)).collect();
        assert_eq!(seen, [("first event", "1"), ("second event", ""), (" third event", "")]);
        assert_eq!(ids.comments, 1);
        assert_eq!(datas("data\n\ndata\ndata\n\ndata:"), ["", "\n"]);
        assert_eq!(datas("data:test\n\ndata: test\n\n"), ["test", "test"]);
    }

    #[test]
    fn all_line_ends_marks_and_odd_fields_are_read_as_it_says() {
        let stream =
            read("\u{feff}event: a\rdata: x\r\nid: 7\nretry: 5\nretry: x\nother: y\n\r\nid: 8\0\ndata\n\n");
        let message = |event_type: &str, data: &str| Message {
            event_type: event_type.to_owned(),
            data: data.to_owned(),
            last_event_id: "7".to_owned(),
        };
        assert_eq!(stream.messages, [message("a", "x"), message("message", "")]);
        assert_eq!((stream.retry, stream.is_between_blocks()), (Some(5), true));
        assert!(!read("data: x\n").is_between_blocks());
    }
}
