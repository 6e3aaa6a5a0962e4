//! Bytes that lie on disk: whatever they are, reading them is an error or gives what writes the same again.
//!
//! A fuzzer hardly ever finds a checksum that is right. So some inputs get it put right, which is what damage looks like that a
//! checksum does not see.

use std::fmt::Debug;

use arbitrary::{Result, Unstructured};
use bytes::Bytes;
use event_log::{Event, IdempotencyKey, Position, ReadError, fuzzing};

use crate::blocks::Block;
use crate::chunk::{Chunk, ChunkWriter, HEADER_BYTES, Header};
use crate::idempotency::Bucket;
use crate::record::{self, Record};
use crate::rows::{self, Checkpoint, NewestRow, RemovalRow, TopicRow};
use crate::segments::segment::{self, Segment};
use crate::{keys, postings, witness};

/// Bytes as a record, with and without a checksum that is right; and an event as a record, whole and damaged.
pub fn record(input: &[u8]) {
    // An input that ends too early says nothing.
    let _ = read_or_write_record(&mut Unstructured::new(input));
}

fn read_or_write_record(input: &mut Unstructured<'_>) -> Result<()> {
    match input.int_in_range(0..=2)? {
        0 => read_record(input.bytes(input.len())?),
        1 => {
            let mut bytes = input.bytes(input.len())?.to_vec();
            record::seal_any(&mut bytes);
            read_record(&bytes);
        }
        _ => {
            let (event, key) = (fuzzing::event(input)?, fuzzing::idempotency_key(input)?);
            let mut bytes = Vec::new();
            record::encode(&event, key.as_ref(), &mut bytes);
            assert_eq!(taken(&bytes), Ok((event, key)));
            let damaged = damage(&bytes, input)?;
            let read = Record::take(&damaged).and_then(|(record, _)| record.check());
            assert!(read.is_err(), "damage was not seen");
        }
    }
    Ok(())
}

fn read_record(bytes: &[u8]) {
    let Ok((event, key)) = taken(bytes) else { return };
    let mut again = Vec::new();
    record::encode(&event, key.as_ref(), &mut again);
    assert_eq!(taken(&again), Ok((event, key)));
}

/// The event of the record at the front, if it is whole and sound.
fn taken(bytes: &[u8]) -> std::result::Result<(Event, Option<IdempotencyKey>), String> {
    let (record, rest) = Record::take(bytes)?;
    assert_eq!(record.whole().len() + rest.len(), bytes.len());
    record.check()?;
    let view = record.view();
    let parts = record.parts(record.texts_copied(), None);
    if let Ok((event, _)) = &parts {
        assert_eq!(view, Ok(event.view()), "an event is the same wherever it lies");
        assert_eq!((record.weight(), record.topic()), (event.weight(), event.topic.as_str().as_bytes()));
    }
    parts
}

/// The same with one byte changed, or cut off.
fn damage(bytes: &[u8], input: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let (place, change) = (input.choose_index(bytes.len())?, input.int_in_range(0..=255u8)?);
    let mut damaged = bytes.to_vec();
    match change {
        0 => damaged.truncate(place),
        _ => damaged[place] ^= change,
    }
    Ok(damaged)
}

/// Bytes as a file of chunks, with and without checksums that are right; and events as chunks, plain and packed, whole and
/// damaged.
pub fn chunk(input: &[u8]) {
    let _ = read_or_write_chunks(&mut Unstructured::new(input));
}

fn read_or_write_chunks(input: &mut Unstructured<'_>) -> Result<()> {
    match input.int_in_range(0..=2)? {
        0 => read_chunks(input.bytes(input.len())?),
        1 => {
            let mut bytes = input.bytes(input.len())?.to_vec();
            seal_chunks(&mut bytes);
            read_chunks(&bytes);
        }
        _ => {
            let mut events = Vec::new();
            for _ in 0..input.int_in_range(1..=20)? {
                events.push((fuzzing::event(input)?, fuzzing::idempotency_key(input)?));
            }
            events.sort_by_key(|(event, _)| event.position);
            events.dedup_by_key(|(event, _)| event.position);
            let mut writer = if input.arbitrary()? { ChunkWriter::packing() } else { ChunkWriter::default() };
            events.iter().for_each(|(event, key)| writer.push(event, key.as_ref()));
            let bytes = writer.finish().bytes;
            assert_eq!(events_of(&bytes), Ok(events));
            let damaged = damage(&bytes, input)?;
            assert!(damaged.is_empty() || events_of(&damaged).is_err(), "damage was not seen");
        }
    }
    Ok(())
}

fn read_chunks(bytes: &[u8]) {
    let Ok(events) = events_of(bytes) else { return };
    let is_in_order = events.is_sorted_by(|(one, _), (other, _)| one.position < other.position);
    if !is_in_order {
        // Within a chunk the order is judged by the chunk, between chunks by whoever knows what came before.
        return;
    }
    for mut writer in [ChunkWriter::default(), ChunkWriter::packing()] {
        events.iter().for_each(|(event, key)| writer.push(event, key.as_ref()));
        assert_eq!(events_of(&writer.finish().bytes).as_ref(), Ok(&events));
    }
}

/// Puts the checksums of all chunks right, as far as their lengths lead, and those of the records in plain ones.
fn seal_chunks(mut rest: &mut [u8]) {
    while let Some(header) = rest.first_chunk::<HEADER_BYTES>() {
        let Ok(header) = Header::decode(header) else { return };
        let Some((chunk, behind)) = rest.split_at_mut_checked(header.chunk_bytes()) else { return };
        header.seal_any(chunk);
        rest = behind;
    }
}

fn events_of(bytes: &[u8]) -> std::result::Result<Vec<(Event, Option<IdempotencyKey>)>, String> {
    let (mut rest, mut events) = (Bytes::copy_from_slice(bytes), Vec::new());
    let text = |error: ReadError| error.to_string();
    while !rest.is_empty() {
        let header = rest.first_chunk().ok_or("a header is cut off")?;
        let header = Header::decode(header)?;
        if header.chunk_bytes() > rest.len() {
            return Err("a chunk is cut off".to_owned());
        }
        let chunk = Chunk::read(header, rest.split_to(header.chunk_bytes()), 0).map_err(text)?;
        let mut last = None;
        for record in chunk.records() {
            let record = record.map_err(text)?;
            record.check()?;
            last = Some(record.position());
            events.push(record.parts(record.texts_in(chunk.body()), None)?);
        }
        assert_eq!(chunk.last().map_err(text)?, last);
    }
    Ok(events)
}

/// The first byte says as what the others are read: the body of a row of some kind, a name or a slot.
pub fn rows(input: &[u8]) {
    let Some((kind, body)) = input.split_first() else { return };
    match kind % 14 {
        0 => reread(body, rows::decode_epochs, rows::encode_epochs),
        1 => reread(body, Checkpoint::decode, Checkpoint::encode),
        2 => reread(body, TopicRow::decode, TopicRow::encode),
        3 => reread(body, RemovalRow::decode, RemovalRow::encode),
        4 => reread(body, rows::decode_used, |used| rows::encode_used(used)),
        5 => reread(body, NewestRow::decode, NewestRow::encode),
        6 => reread(body, rows::decode_block, |block: &Block| rows::encode_block(block)),
        7 => reread(body, rows::decode_dead, |dead| rows::encode_dead(dead)),
        8 => read_postings(body),
        9 => read_segment(body),
        10 => read_bucket(body),
        11 => witness::reread(body),
        12 => read_names(body),
        _ => seal(body),
    }
}

/// What was read is written and read again, and must be the same.
fn reread<T: Debug + PartialEq>(
    body: &[u8],
    decode: impl Fn(&[u8]) -> std::result::Result<T, String>,
    encode: impl Fn(&T) -> Vec<u8>,
) {
    if let Ok(value) = decode(body) {
        assert_eq!(decode(&encode(&value)).as_ref(), Ok(&value));
    }
}

/// The first eight bytes are the place that stands in the row's key.
fn first_place(body: &[u8]) -> Option<(Position, &[u8])> {
    let (first, body) = body.split_first_chunk()?;
    Some((Position::new(u64::from_be_bytes(*first)), body))
}

fn read_postings(body: &[u8]) {
    let Some((first, body)) = first_place(body) else { return };
    let Ok(read) = postings::decode(first, body) else { return };
    // The place before the first event has no posting.
    if first > Position::ORIGIN {
        let rows = postings::encode(&read);
        let again = rows.iter().flat_map(|(first, body)| postings::decode(*first, body).unwrap_or_default());
        assert_eq!(again.collect::<Vec<_>>(), read);
    }
}

fn read_segment(body: &[u8]) {
    let Some((first, body)) = first_place(body) else { return };
    let Ok(read) = Segment::decode(first, body) else { return };
    let again = Segment::decode(first, &read.encode()).unwrap_or_else(|what| panic!("{what}: {read:?}"));
    assert_eq!(format!("{again:?}"), format!("{read:?}"));
    for place in [first, first.just_before(), read.through(), Position::new(u64::MAX)] {
        if let Some((from, to)) = read.extent.read().span(place) {
            assert!(from <= to && to <= read.bytes(), "{from} to {to} of {}", read.bytes());
        }
    }
}

fn read_bucket(body: &[u8]) {
    let Some((first, body)) = first_place(body) else { return };
    let mut bucket = Bucket::begin(first);
    if bucket.add(body).is_err() {
        return;
    }
    let hash = |bytes: &[u8]| bytes.first_chunk().copied().unwrap_or_default();
    for entry in body.chunks(4) {
        let _ = bucket.candidates(&hash(&[entry, &[0; 16]].concat())).count();
    }
    let mut again = Bucket::begin(first);
    let parts = bucket.encode();
    if parts.is_empty() {
        return;
    }
    parts.iter().for_each(|part| again.add(part).unwrap_or_else(|what| panic!("{what}")));
    assert_eq!(again, bucket);
}

fn read_names(body: &[u8]) {
    let Ok(name) = std::str::from_utf8(body) else { return };
    if let Some((first, generation)) = segment::parse_name(name) {
        let shown = Segment::new(first, generation).name();
        assert_eq!(segment::parse_name(&shown), Some((first, generation)));
    }
}

/// A row is what was sealed under its key, and nothing else is.
fn seal(body: &[u8]) {
    let (key, body) = body.split_at(body.len() / 2);
    let sealed = rows::seal(key, body);
    assert_eq!(rows::unseal(key, &sealed), Ok(body));
    let _ = (rows::unseal(key, body), keys::read_postings(key), keys::read_bucket(key));
    let _ = (keys::read_newest(key), keys::read_tombstone(key), keys::read_segment(key));
}
