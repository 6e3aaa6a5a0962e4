//! The lines of an input, read on a thread of their own, and the batches that they go out in.
//!
//! One line is waited for, then all that is ready is taken, so that a file goes in large batches and what somebody types,
//! or a program writes now and then, goes at once. A line is data as it is, CR and blank lines too; behind the last LF
//! there is no line.

use std::io::{self, BufRead, BufReader, Read};
use std::time::Duration;

use event_log::limits::MIB;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Events of a batch.
const BATCH_LINES_MAX: usize = 500;
/// Bytes of lines of a batch; one line may be longer.
const BATCH_BYTES_MAX: usize = MIB;
/// A batch goes when no further line came for so long.
const PAUSE: Duration = Duration::from_millis(3);
/// Lines that wait for the publisher.
const QUEUE_LINES: usize = 64;

/// An input, line by line.
pub(crate) struct Lines(mpsc::Receiver<io::Result<String>>);

impl Lines {
    /// Begins to read lines of at most so many bytes. The thread ends with the input, or with the process.
    pub(crate) fn read(input: impl Read + Send + 'static, bytes_max: usize) -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE_LINES);
        std::thread::spawn(move || {
            let mut input = BufReader::with_capacity(1 << 16, input);
            while let Some(line) = next_line(&mut input, bytes_max).transpose() {
                let failed = line.is_err();
                if sender.blocking_send(line).is_err() || failed {
                    return;
                }
            }
        });
        Lines(receiver)
    }

    /// The next line; `None` at the end.
    pub(crate) async fn next(&mut self) -> io::Result<Option<String>> {
        self.0.recv().await.transpose()
    }

    /// The next lines, at least one; `None` at the end. Lines before an error are handed out first.
    pub(crate) async fn batch(&mut self) -> io::Result<Option<Batch>> {
        let Some(first) = self.0.recv().await else { return Ok(None) };
        let mut batch = Batch { bytes: 0, lines: Vec::new(), error: None };
        batch.push(first);
        while batch.error.is_none() && batch.lines.len() < BATCH_LINES_MAX && batch.bytes < BATCH_BYTES_MAX {
            match timeout(PAUSE, self.0.recv()).await {
                Ok(Some(line)) => batch.push(line),
                Ok(None) | Err(_) => break,
            }
        }
        match batch.error {
            Some(error) if batch.lines.is_empty() => Err(error),
            _ => Ok(Some(batch)),
        }
    }
}

/// Lines that go out together.
#[derive(Debug)]
pub(crate) struct Batch {
    bytes: usize,
    pub(crate) lines: Vec<String>,
    /// What stood in the way of the line after these.
    pub(crate) error: Option<io::Error>,
}

impl Batch {
    fn push(&mut self, line: io::Result<String>) {
        match line {
            Ok(line) => {
                self.bytes += line.len();
                self.lines.push(line);
            }
            Err(error) => self.error = Some(error),
        }
    }
}

fn next_line(input: &mut impl BufRead, bytes_max: usize) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    // One more than fits, so that what is too long is seen and not held.
    input.take(bytes_max as u64 + 2).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Ok(None);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
    }
    if line.len() > bytes_max {
        return Err(io::Error::other(format!(
            "the line is longer than {bytes_max} bytes, the most that any broker takes"
        )));
    }
    String::from_utf8(line).map(Some).map_err(|error| {
        io::Error::other(format!(
            "the line is not UTF-8 (at byte {}); data is UTF-8 text",
            error.utf8_error().valid_up_to() + 1
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batches(input: &'static [u8]) -> (Vec<Vec<String>>, Option<String>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut lines = Lines::read(input, 64);
            let mut batches = Vec::new();
            loop {
                match lines.batch().await {
                    Ok(Some(batch)) => {
                        batches.push(batch.lines);
                        if let Some(error) = batch.error {
                            return (batches, Some(error.to_string()));
                        }
                    }
                    Ok(None) => return (batches, None),
                    Err(error) => return (batches, Some(error.to_string())),
                }
            }
        })
    }

    fn all(input: &'static [u8]) -> Vec<String> {
        let (batches, error) = batches(input);
        assert_eq!(error, None);
        batches.concat()
    }

    #[test]
    fn a_line_is_data_as_it_is() {
        assert_eq!(all(b"a\n\n b \r\nlast"), ["a", "", " b \r", "last"]);
        assert_eq!(all(b"a\n"), ["a"]);
        assert_eq!(all(b"\n"), [""]);
        assert!(all(b"").is_empty());
    }

    #[test]
    fn lines_before_one_that_is_not_utf8_are_handed_out() {
        let (batches, error) = batches(b"good\n\xff\xfe\nnever\n");
        assert_eq!(batches.concat(), ["good"]);
        assert!(error.unwrap().contains("not UTF-8"));
    }

    #[test]
    fn a_line_that_is_too_long_is_refused() {
        let (batches, error) = batches(
            Box::leak(format!("{}\n{}\n", "x".repeat(64), "x".repeat(65)).into_boxed_str()).as_bytes(),
        );
        assert_eq!(batches.concat(), ["x".repeat(64)]);
        assert!(error.unwrap().contains("longer than 64 bytes"));
    }

    #[test]
    fn a_batch_has_a_bounded_number_of_lines() {
        let input: &'static [u8] = Box::leak("x\n".repeat(1_200).into_bytes().into_boxed_slice());
        let (batches, _) = batches(input);
        assert_eq!(batches.concat().len(), 1_200);
        assert!(batches.iter().all(|batch| batch.len() <= BATCH_LINES_MAX));
    }
}
