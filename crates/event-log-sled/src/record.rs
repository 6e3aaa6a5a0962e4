//! One event as bytes. This is the only file that knows bincode, which writes the head.
//!
//! ```text
//! version u8 | crc32 u32 | length u32 | head length u16 | head | topic type key origin idempotency-key data
//! ```
//!
//! `length` counts what follows it; the checksum covers version, length and all that follows. The head is small and of
//! fixed shape: bincode. The texts lie behind it as they are, so that an event is made by cutting slices and a record
//! that nobody wants is skipped without looking at them. Reading goes by the version byte; records of all versions stay
//! readable for ever, and one version is written.

use bincode::config::{Configuration, LittleEndian, NoLimit, Varint};
use bytes::Bytes;
use bytestring::ByteString;
use event_log::{Data, Event, EventType, EventView, IdempotencyKey, Key, Origin, Position, Timestamp, Topic};
use uuid::Uuid;

const VERSION: u8 = 1;
const PREFIX_BYTES: usize = 9;
const HEAD_LENGTH_BYTES: usize = 2;

/// Spelled out, because a default that changes would change what lies on disk.
const BINCODE: Configuration<LittleEndian, Varint, NoLimit> =
    bincode::config::standard().with_little_endian().with_variable_int_encoding().with_no_limit();

/// The small fields of an event, and the lengths of its texts; 0 for a text that is absent, since none may be empty
/// but data.
#[derive(Debug, Clone, PartialEq, Eq, bincode::Encode)]
#[cfg_attr(test, derive(bincode::Decode))]
struct Head {
    position: u64,
    time_micros: u64,
    uuid: [u8; 16],
    topic: u32,
    event_type: u32,
    key: u32,
    origin: u32,
    idempotency_key: u32,
    data: u32,
}

impl Head {
    /// Reads what bincode wrote, and says how many bytes it took. By hand: this is a good part of what it costs to pass an event
    /// by.
    #[inline(always)]
    fn decode(bytes: &[u8]) -> Option<(Self, usize)> {
        let mut rest = bytes;
        let (position, time_micros) = (number(&mut rest)?, number(&mut rest)?);
        let uuid = *rest.split_off(..16)?.first_chunk()?;
        let [topic, event_type, key, origin, idempotency_key, data] = {
            let mut length = || u32::try_from(number(&mut rest)?).ok();
            [length()?, length()?, length()?, length()?, length()?, length()?]
        };
        let head =
            Head { position, time_micros, uuid, topic, event_type, key, origin, idempotency_key, data };
        Some((head, bytes.len() - rest.len()))
    }
}

/// Takes a number from the front: one byte, or a byte that says how many follow.
#[inline(always)]
fn number(rest: &mut &[u8]) -> Option<u64> {
    match rest.split_off_first()? {
        small @ ..=250 => Some(u64::from(*small)),
        251 => rest.split_off(..2)?.first_chunk().map(|bytes| u64::from(u16::from_le_bytes(*bytes))),
        252 => rest.split_off(..4)?.first_chunk().map(|bytes| u64::from(u32::from_le_bytes(*bytes))),
        253 => rest.split_off(..8)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes)),
        254.. => None,
    }
}

/// Appends an event's record to `bytes`.
pub(crate) fn encode(event: &Event, idempotency_key: Option<&IdempotencyKey>, bytes: &mut Vec<u8>) {
    let texts = [
        event.topic.as_str(),
        event.event_type.as_ref().map_or("", EventType::as_str),
        event.key.as_ref().map_or("", Key::as_str),
        event.origin.as_ref().map_or("", Origin::as_str),
        idempotency_key.map_or("", IdempotencyKey::as_str),
        event.data.as_str(),
    ];
    let [topic, event_type, key, origin, idempotency_key, data] = texts.map(|text| length(text.len()));
    let head = Head {
        position: event.position.get(),
        time_micros: event.time.as_micros(),
        uuid: event.uuid.into_bytes(),
        topic,
        event_type,
        key,
        origin,
        idempotency_key,
        data,
    };
    let start = bytes.len();
    bytes.extend([0; PREFIX_BYTES + HEAD_LENGTH_BYTES]);
    let head_start = bytes.len();
    bincode::encode_into_std_write(&head, bytes, BINCODE).expect("a vector takes every byte");
    let head_length = u16::try_from(bytes.len() - head_start).expect("a head is short");
    for text in texts {
        bytes.extend_from_slice(text.as_bytes());
    }
    let record = &mut bytes[start..];
    let following = length(record.len() - PREFIX_BYTES);
    record[0] = VERSION;
    record[5..9].copy_from_slice(&following.to_be_bytes());
    record[9..11].copy_from_slice(&head_length.to_be_bytes());
    let checksum = checksum(record);
    record[1..5].copy_from_slice(&checksum.to_be_bytes());
}

#[cold]
fn lengths_do_not_fit(position: Position) -> String {
    format!("the lengths in the record at {position} do not fit")
}

fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("an event is far smaller than 4 GiB")
}

fn checksum(record: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&record[..1]);
    hasher.update(&record[5..]);
    hasher.finalize()
}

/// Makes bytes a record as far as its prefix goes.
#[cfg(feature = "fuzzing")]
pub(crate) fn seal_any(bytes: &mut [u8]) {
    if let Some(following) = bytes.len().checked_sub(PREFIX_BYTES) {
        bytes[0] = VERSION;
        bytes[5..9].copy_from_slice(&length(following).to_be_bytes());
        let checksum = checksum(bytes);
        bytes[1..5].copy_from_slice(&checksum.to_be_bytes());
    }
}

/// A record whose head was read. Its texts were not looked at.
#[derive(Debug, Clone)]
pub(crate) struct Record<'a> {
    whole: &'a [u8],
    texts: &'a [u8],
    head: Head,
}

impl<'a> Record<'a> {
    /// Takes the record at the front of `bytes`, and returns what follows it.
    #[inline(always)]
    pub(crate) fn take(bytes: &'a [u8]) -> Result<(Self, &'a [u8]), String> {
        let prefix = bytes.first_chunk::<PREFIX_BYTES>().ok_or("a record is cut off in its prefix")?;
        if prefix[0] != VERSION {
            return Err(format!("a record has version {}, and {VERSION} is known", prefix[0]));
        }
        let following = u32::from_be_bytes([prefix[5], prefix[6], prefix[7], prefix[8]]) as usize;
        let (whole, rest) = bytes
            .split_at_checked(PREFIX_BYTES + following)
            .ok_or("a record is longer than what holds it")?;
        let (head_length, body) =
            whole[PREFIX_BYTES..].split_first_chunk::<HEAD_LENGTH_BYTES>().ok_or("a record has no head")?;
        let head_length = usize::from(u16::from_be_bytes(*head_length));
        let (head, texts) = body.split_at_checked(head_length).ok_or("a record's head is cut off")?;
        let (head, read) = Head::decode(head).ok_or("a record's head cannot be read")?;
        let record = Record { whole, texts, head };
        match read == head_length && record.lengths().iter().sum::<usize>() == texts.len() {
            true => Ok((record, rest)),
            false => Err(lengths_do_not_fit(record.position())),
        }
    }

    /// Whether the record is what was written, by its own checksum.
    pub(crate) fn check(&self) -> Result<(), String> {
        match self.whole[1..5] == checksum(self.whole).to_be_bytes() {
            true => Ok(()),
            false => Err(format!("the checksum of the record at {} is wrong", self.position())),
        }
    }

    /// All its bytes.
    pub(crate) fn whole(&self) -> &'a [u8] {
        self.whole
    }

    pub(crate) fn position(&self) -> Position {
        Position::new(self.head.position)
    }

    pub(crate) fn time(&self) -> Timestamp {
        Timestamp::from_micros(self.head.time_micros)
    }

    pub(crate) fn uuid(&self) -> Uuid {
        Uuid::from_bytes(self.head.uuid)
    }

    /// What a policy counts, without looking at the texts.
    pub(crate) fn weight(&self) -> usize {
        let [topic, event_type, key, _, _, data] = self.lengths();
        topic + event_type + key + data
    }

    /// Bytes of all texts.
    pub(crate) fn text_bytes(&self) -> usize {
        self.texts.len()
    }

    /// The topic's bytes, which are UTF-8 unless the record is damaged.
    pub(crate) fn topic(&self) -> &'a [u8] {
        &self.texts[..self.head.topic as usize]
    }

    fn lengths(&self) -> [usize; 6] {
        let Head { topic, event_type, key, origin, idempotency_key, data, .. } = self.head;
        [topic, event_type, key, origin, idempotency_key, data].map(|length| length as usize)
    }

    /// The event where it lies, without its idempotency key.
    #[inline]
    pub(crate) fn view(&self) -> Result<EventView<'a>, String> {
        let name = |what: &dyn std::fmt::Display| format!("the record at {}: {what}", self.position());
        let mut rest = std::str::from_utf8(self.texts).map_err(|error| name(&error))?;
        let mut cut = |length: usize| {
            let (text, behind) =
                rest.split_at_checked(length).ok_or_else(|| name(&"a text ends inside a character"))?;
            rest = behind;
            Ok::<_, String>(text)
        };
        let present = |text: &'a str| if text.is_empty() { None } else { Some(text) };
        let [topic, event_type, key, origin, idempotency_key, data] = self.lengths();
        let topic = cut(topic)?;
        let event_type = present(cut(event_type)?);
        event_type.map_or(Ok(()), EventType::check).map_err(|error| name(&error))?;
        let (key, origin) = (present(cut(key)?), present(cut(origin)?));
        cut(idempotency_key)?;
        let data = cut(data)?;
        let (position, time, uuid) = (self.position(), self.time(), self.uuid());
        Ok(EventView { position, time, uuid, topic, event_type, key, origin, data })
    }

    /// Makes the event. `texts` are this record's texts, in bytes that the event may keep (see [`Record::texts_in`]);
    /// `topic` is the topic if it is known already, so that all its events share one text.
    pub(crate) fn event(&self, texts: Bytes, topic: Option<Topic>) -> Result<Event, String> {
        Ok(self.parts(texts, topic)?.0)
    }

    /// Makes the event and the idempotency key that it was published with.
    pub(crate) fn parts(
        &self,
        texts: Bytes,
        topic: Option<Topic>,
    ) -> Result<(Event, Option<IdempotencyKey>), String> {
        let name = |what: &dyn std::fmt::Display| format!("the record at {}: {what}", self.position());
        let texts = ByteString::try_from(texts).map_err(|error| name(&error))?;
        let mut at = 0;
        let mut cut = |length: usize| {
            let text = texts.get(at..at + length).ok_or_else(|| name(&"a text ends inside a character"))?;
            at += length;
            Ok::<_, String>(texts.slice_ref(text))
        };
        let [topic_text, event_type, key, origin, idempotency_key, data] = self.lengths();
        let topic_text = cut(topic_text)?;
        let topic = topic.map_or_else(|| Topic::parse(topic_text), Ok).map_err(|error| name(&error))?;
        let event_type = optional(cut(event_type)?, EventType::parse).map_err(|error| name(&error))?;
        let key = optional(cut(key)?, Key::parse).map_err(|error| name(&error))?;
        let origin = optional(cut(origin)?, Origin::parse).map_err(|error| name(&error))?;
        let idempotency_key =
            optional(cut(idempotency_key)?, IdempotencyKey::parse).map_err(|error| name(&error))?;
        let data = Data::from(cut(data)?);
        let (position, time, uuid) = (self.position(), self.time(), self.uuid());
        Ok((Event { position, time, uuid, topic, event_type, key, origin, data }, idempotency_key))
    }

    /// This record's texts as a part of `chunk`, which they were read from: nothing is copied.
    pub(crate) fn texts_in(&self, chunk: &Bytes) -> Bytes {
        chunk.slice_ref(self.texts)
    }

    /// This record's texts in memory of their own, for an event that would otherwise hold a whole chunk.
    pub(crate) fn texts_copied(&self) -> Bytes {
        Bytes::copy_from_slice(self.texts)
    }
}

fn optional<T, E>(text: ByteString, parse: impl Fn(ByteString) -> Result<T, E>) -> Result<Option<T>, E> {
    if text.is_empty() { Ok(None) } else { parse(text).map(Some) }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// An event in which every field is set, and its idempotency key.
    pub(crate) fn full() -> (Event, IdempotencyKey) {
        let event = Event {
            position: Position::new(300),
            time: Timestamp::from_micros(1_795_226_400_123_456),
            uuid: Uuid::from_u128(0x0198_f3a1_7c40_7abc_8def_0123_4567_89ab),
            topic: Topic::parse("stocks.ibm").unwrap(),
            event_type: Some(EventType::parse("trade").unwrap()),
            key: Some(Key::parse("IBM").unwrap()),
            origin: Some(Origin::parse("me").unwrap()),
            data: Data::from(ByteString::from_static("{\"price\": 182.3}")),
        };
        (event, IdempotencyKey::parse("k-1").unwrap())
    }

    pub(crate) fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn a_record_has_these_bytes_for_ever() {
        let (event, key) = full();
        let mut bytes = Vec::new();
        encode(&event, Some(&key), &mut bytes);
        assert_eq!(hex(&bytes), GOLDEN);
    }

    const GOLDEN: &str = "0185b6f68f0000004b0022fb2c01fd40eadeb7bf6006000198f3a17c407abc8def0123456789ab0a0503020310\
        73746f636b732e69626d747261646549424d6d656b2d317b227072696365223a203138322e337d";

    #[test]
    fn every_flipped_byte_of_a_record_is_seen() {
        let (event, key) = full();
        let mut bytes = Vec::new();
        encode(&event, Some(&key), &mut bytes);
        for index in 0..bytes.len() {
            for bit in [1, 0x80] {
                let mut damaged = bytes.clone();
                damaged[index] ^= bit;
                let read = Record::take(&damaged).and_then(|(record, _)| record.check());
                assert!(read.is_err(), "byte {index}");
            }
            assert!(Record::take(&bytes[..index]).is_err(), "cut at {index}");
        }
    }

    fn text(range: std::ops::Range<usize>) -> impl Strategy<Value = Option<String>> {
        proptest::option::of(proptest::collection::vec(prop_oneof![Just('é'), Just('a'), Just('日')], range))
            .prop_map(|chars| chars.map(|chars| chars.into_iter().collect()))
    }

    fn spread(number: u64, shift: u32) -> u64 {
        number >> (shift % 64)
    }

    proptest! {
        #[test]
        fn a_head_is_read_as_bincode_reads_it(
            numbers: (u64, u32, u64, u32, u128), lengths: [(u32, u32); 6], cut: u8, flip: (u8, u8),
        ) {
            let [topic, event_type, key, origin, idempotency_key, data] =
                lengths.map(|(length, shift)| length >> (shift % 32));
            let head = Head {
                position: spread(numbers.0, numbers.1),
                time_micros: spread(numbers.2, numbers.3),
                uuid: numbers.4.to_be_bytes(),
                topic, event_type, key, origin, idempotency_key, data,
            };
            let mut bytes = bincode::encode_to_vec(&head, BINCODE).unwrap();
            prop_assert_eq!(Head::decode(&bytes), Some((head, bytes.len())));
            let cut = usize::from(cut) % bytes.len();
            prop_assert_eq!(Head::decode(&bytes[..cut]), None);
            let at = usize::from(flip.0) % bytes.len();
            bytes[at] ^= flip.1;
            // It takes a length that is written longer than needed; nobody writes one.
            if let Ok(read) = bincode::decode_from_slice::<Head, _>(&bytes, BINCODE) {
                prop_assert_eq!(Head::decode(&bytes), Some(read));
            }
        }

        #[test]
        fn records_read_back_what_was_written(
            numbers: (u64, u64, u128),
            event_type in text(1..20), key in text(1..20), origin in text(1..20), idempotency in text(1..20),
            data in text(0..200), follows: Vec<u8>,
        ) {
            let event = Event {
                position: Position::new(numbers.0),
                time: Timestamp::from_micros(numbers.1),
                uuid: Uuid::from_u128(numbers.2),
                event_type: event_type.map(|text| EventType::parse(text).unwrap()),
                key: key.map(|text| Key::parse(text).unwrap()),
                origin: origin.map(|text| Origin::parse(text).unwrap()),
                data: Data::from(ByteString::from(data.unwrap_or_default())),
                ..full().0
            };
            let idempotency = idempotency.map(|text| IdempotencyKey::parse(text).unwrap());
            let mut bytes = Vec::new();
            encode(&event, idempotency.as_ref(), &mut bytes);
            let whole = Bytes::from([&bytes[..], &follows].concat());
            let (record, rest) = Record::take(&whole).unwrap();
            prop_assert_eq!(rest, &follows[..]);
            prop_assert_eq!(record.check(), Ok(()));
            prop_assert_eq!(record.weight(), event.weight());
            prop_assert_eq!(record.topic(), b"stocks.ibm");
            prop_assert_eq!(record.view(), Ok(event.view()));
            prop_assert_eq!(record.parts(record.texts_in(&whole), None), Ok((event.clone(), idempotency)));
            prop_assert_eq!(record.event(record.texts_copied(), Some(event.topic.clone())), Ok(event));
        }
    }
}
