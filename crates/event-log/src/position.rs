//! The one order: positions, the epochs that name its histories, and the ids that are seen outside.

use std::fmt;

use crate::Invalid;

/// A place in the one order of a log.
///
/// Positions strictly increase and are never reused, but **need not be neighbours**: an engine may leave gaps, so code
/// compares positions and never counts with them. What is seen outside as an event's *sequence* is its position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position(u64);

impl Position {
    /// The place before the first event.
    pub const ORIGIN: Position = Position(0);

    /// The place with this number; 0 is [`Position::ORIGIN`], events begin at 1.
    pub const fn new(number: u64) -> Self {
        Position(number)
    }

    /// The number of this place.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The cursor of a reader that wants the event at this place next. It is a place in the order, not necessarily
    /// that of an event. Saturates at the origin.
    pub const fn just_before(self) -> Self {
        Position(self.0.saturating_sub(1))
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The name of one unbroken history of a log: 8 lower-case hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Epoch(u32);

impl Epoch {
    /// The epoch with this number.
    pub const fn new(number: u32) -> Self {
        Epoch(number)
    }

    /// The number of this epoch.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

/// `<sequence>-<epoch>`, or a bare `<sequence>`, which is not checked against an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EventId {
    /// The place.
    pub position: Position,
    /// The history that the place belongs to, if it was named.
    pub epoch: Option<Epoch>,
}

impl EventId {
    /// An id with its epoch.
    pub const fn new(position: Position, epoch: Epoch) -> Self {
        EventId { position, epoch: Some(epoch) }
    }

    /// Reads an id: decimal digits without sign or leading zero, at most 2^64-1, then nothing or `-` and 8 lower-case
    /// hexadecimal digits. All else is malformed.
    pub fn parse(text: &[u8]) -> Result<Self, Invalid> {
        Self::parse_exact(text).ok_or_else(|| {
            Invalid::new(format!(
                "{:?} is not an event id; an id looks like 184467-7f3a9c1e or 184467",
                String::from_utf8_lossy(text)
            ))
        })
    }

    fn parse_exact(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let (digits, epoch) = match text.split_once('-') {
            Some((digits, epoch)) => (digits, Some(epoch)),
            None => (text, None),
        };
        let canonical = digits == "0" || !digits.starts_with('0');
        if digits.is_empty() || !canonical || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let position = Position(digits.parse().ok()?);
        let epoch = match epoch {
            None => None,
            Some(hex) if hex.len() == 8 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) => {
                Some(Epoch(u32::from_str_radix(hex, 16).ok()?))
            }
            Some(_) => return None,
        };
        Some(EventId { position, epoch })
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.epoch {
            Some(epoch) => write!(f, "{}-{epoch}", self.position),
            None => self.position.fmt(f),
        }
    }
}

/// Where an epoch begins: after this place, the place of the divergence from the epoch before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochStart {
    /// The epoch.
    pub epoch: Epoch,
    /// Its first event comes after this place.
    pub after: Position,
}

/// The histories that a log knows, oldest first. The last one is the present; there is always one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Epochs(Vec<EpochStart>);

impl Epochs {
    /// A new log's only epoch.
    pub fn first(epoch: Epoch) -> Self {
        Epochs(vec![EpochStart { epoch, after: Position::ORIGIN }])
    }

    /// The epochs of a log, oldest first; `None` if there is none or they do not stand in order.
    pub fn from_starts(starts: Vec<EpochStart>) -> Option<Self> {
        let ordered = starts.windows(2).all(|pair| pair[0].after <= pair[1].after);
        (ordered && !starts.is_empty()).then_some(Epochs(starts))
    }

    /// Begins a new history after this place.
    pub fn begin(&mut self, epoch: Epoch, after: Position) {
        assert!(after >= self.0[self.0.len() - 1].after, "an epoch begins before the one before it");
        self.0.push(EpochStart { epoch, after });
    }

    /// The present epoch.
    pub fn current(&self) -> Epoch {
        self.0[self.0.len() - 1].epoch
    }

    /// All epochs, oldest first.
    pub fn starts(&self) -> &[EpochStart] {
        &self.0
    }

    /// How far an epoch's ids are places of this log too: to the point where it diverged from what this log holds
    /// (`Some(Some(..))`), without end for the present epoch (`Some(None)`), not at all for an unknown one (`None`).
    pub fn valid_through(&self, epoch: Epoch) -> Option<Option<Position>> {
        let index = self.0.iter().rposition(|start| start.epoch == epoch)?;
        Some(self.0.get(index + 1).map(|next| next.after))
    }

    /// Whether this id names a place of this log's history, as far as its epoch says.
    pub fn knows(&self, id: EventId) -> bool {
        match id.epoch.map(|epoch| self.valid_through(epoch)) {
            None | Some(Some(None)) => true,
            Some(Some(Some(through))) => id.position <= through,
            Some(None) => false,
        }
    }

    /// The id that is shown for a place: always with the present epoch.
    pub fn id(&self, position: Position) -> EventId {
        EventId::new(position, self.current())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_read_back_what_they_show() {
        for text in ["0", "1", "184467", "18446744073709551615", "0-00000000", "184467-7f3a9c1e"] {
            assert_eq!(EventId::parse(text.as_bytes()).unwrap().to_string(), text);
        }
    }

    #[test]
    fn all_else_is_malformed() {
        let malformed: [&[u8]; 18] = [
            b"",
            b"-",
            b"-1",
            b"+1",
            b"01",
            b"00",
            b"1-",
            b"1-7f3a9c1",
            b"1-7f3a9c1e0",
            b"1-7F3A9C1E",
            b" 1",
            b"1 ",
            b"18446744073709551616",
            b"1-7f3a9c1e-",
            b"one",
            b"1.0",
            b"\xff",
            "１".as_bytes(),
        ];
        for text in malformed {
            assert!(EventId::parse(text).is_err(), "{}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn an_older_epoch_is_known_up_to_where_it_diverged() {
        let mut epochs = Epochs::first(Epoch::new(0xa));
        epochs.begin(Epoch::new(0xb), Position::new(100));
        let id = |n, e| EventId::new(Position::new(n), Epoch::new(e));
        assert!(epochs.knows(id(100, 0xa)));
        assert!(!epochs.knows(id(101, 0xa)));
        assert!(epochs.knows(id(50, 0xb)));
        assert!(epochs.knows(id(500, 0xb)));
        assert!(!epochs.knows(id(1, 0xc)));
        assert!(epochs.knows(EventId { position: Position::new(7), epoch: None }));
        assert_eq!(epochs.id(Position::new(3)).to_string(), "3-0000000b");
    }
}
