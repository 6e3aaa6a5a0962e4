//! The lines of an archive, or of events to publish, from a file, standard input or a broker.

use std::fs::File;
use std::io;
use std::path::Path;

use anyhow::{Context, anyhow};
use broker_http::archive::{Line, Reader};
use event_log::limits::ARCHIVE_LINE_BYTES_MAX;
use futures_util::{StreamExt, TryStreamExt};
use reqwest::Response;
use tokio::io::AsyncRead;
use tokio_util::codec::{FramedRead, LinesCodec};
use tokio_util::io::StreamReader;

use crate::client::http::innermost;
use crate::client::lines::Lines;

/// Lines that are read one after the other.
pub(crate) struct Text {
    source: Source,
    reader: Reader,
    line: String,
    number: u64,
    bytes: u64,
}

enum Source {
    Input(Lines),
    Answer(Box<FramedRead<Box<dyn AsyncRead + Unpin>, LinesCodec>>),
}

impl Text {
    /// A file, or standard input; and how many bytes it has, if that can be known.
    pub(crate) fn open(file: Option<&Path>) -> anyhow::Result<(Self, Option<u64>)> {
        let (lines, size) = match file {
            Some(path) if path.as_os_str() != "-" => {
                let unreadable = || format!("{} cannot be read", path.display());
                let file = File::open(path).with_context(unreadable)?;
                let metadata = file.metadata().with_context(unreadable)?;
                (Lines::read(file, ARCHIVE_LINE_BYTES_MAX), metadata.is_file().then_some(metadata.len()))
            }
            _ => (Lines::read(io::stdin(), ARCHIVE_LINE_BYTES_MAX), None),
        };
        Ok((Self::new(Source::Input(lines)), size))
    }

    /// What a broker answers.
    pub(crate) fn answer(response: Response) -> Self {
        let bytes = response.bytes_stream().map_err(|error| io::Error::other(innermost(&error)));
        let bytes: Box<dyn AsyncRead + Unpin> = Box::new(StreamReader::new(Box::pin(bytes)));
        let codec = LinesCodec::new_with_max_length(ARCHIVE_LINE_BYTES_MAX);
        Self::new(Source::Answer(Box::new(FramedRead::new(bytes, codec))))
    }

    fn new(source: Source) -> Self {
        Text { source, reader: Reader::default(), line: String::new(), number: 0, bytes: 0 }
    }

    /// What the next line holds; `None` at the end, if the text may end there.
    pub(crate) async fn next(&mut self) -> anyhow::Result<Option<Line>> {
        loop {
            let next = match &mut self.source {
                Source::Input(lines) => lines.next().await.map_err(anyhow::Error::from),
                Source::Answer(lines) => lines.next().await.transpose().map_err(anyhow::Error::from),
            };
            let Some(line) = next.map_err(|error| self.broken_off(&error))? else {
                self.reader.end()?;
                return Ok(None);
            };
            (self.line, self.number) = (line, self.number + 1);
            self.bytes += self.line.len() as u64 + 1;
            if let Some(held) = self.reader.read(&self.line).map_err(|error| self.at_line(error))? {
                return Ok(Some(held));
            }
        }
    }

    /// The line that was read last, without its line end.
    pub(crate) fn line(&self) -> &str {
        &self.line
    }

    /// How many bytes were read.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many events were read.
    pub(crate) fn events(&self) -> u64 {
        self.reader.events()
    }

    /// Says which line it was.
    pub(crate) fn at_line(&self, error: impl Into<anyhow::Error>) -> anyhow::Error {
        error.into().context(format!("line {}", self.number))
    }

    fn broken_off(&self, error: &anyhow::Error) -> anyhow::Error {
        anyhow!("line {}: the text broke off after {} events: {error}", self.number + 1, self.events())
    }
}

#[cfg(test)]
impl Text {
    /// A text that is written in a test.
    pub(crate) fn of(text: &str) -> Self {
        let input = io::Cursor::new(text.as_bytes().to_vec());
        Self::new(Source::Input(Lines::read(input, ARCHIVE_LINE_BYTES_MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::http::block_on;

    fn refusal(text: &str) -> String {
        let mut text = Text::of(text);
        let read = block_on(async {
            while text.next().await?.is_some() {}
            Ok(())
        });
        format!("{:#}", read.unwrap_err())
    }

    #[test]
    fn a_line_that_cannot_be_taken_is_named_by_its_number() {
        assert!(refusal("{\"topic\":\"a\",\"data\":1}\n\n{\"topic\":\"a\"}\n").starts_with("line 3: "));
        let whole = "{\"type\":\"$export\",\"id\":\"0-7f3a9c1e\",\"data\":{\"version\":1,\"epochs\":[{\"epoch\":\"7f3a9c1e\",\"after\":0}]}}";
        assert!(refusal(&whole[..40]).starts_with("line 1: "));
        assert!(refusal(whole).contains("cut off"));
        assert!(refusal("").contains("empty"));
    }

    #[test]
    fn bytes_and_lines_are_counted_as_they_stand() {
        let mut text = Text::of("\n{\"topic\":\"a\",\"data\":\"\u{e9}\"}\n");
        block_on(text.next()).unwrap().unwrap();
        assert_eq!(
            (text.bytes(), text.events(), text.line()),
            (27, 1, "{\"topic\":\"a\",\"data\":\"\u{e9}\"}")
        );
        assert!(block_on(text.next()).unwrap().is_none());
    }
}
