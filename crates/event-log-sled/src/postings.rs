//! The index of a topic's events: the place and the weight of each, in order, in rows of bounded size.
//!
//! The weight is there so that a trim by bytes, and every count, needs the index alone and none of the events.
//!
//! A row's body: how many u32, the first weight, then for each further event the distance of its place from the one before
//! and its weight, all as LEB128. The first place is in the row's key.

use event_log::Position;

use crate::varint;

/// A longer list is split into several rows.
const ROW_BYTES_MAX: usize = 8 * 1_024;

/// Where an event lies, and what it weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Posting {
    pub(crate) position: Position,
    /// As [`event_log::Event::weight`] counts it.
    pub(crate) weight: u32,
}

/// Splits postings into rows: for each the first place, which is in the key, and the body.
pub(crate) fn encode(postings: &[Posting]) -> Vec<(Position, Vec<u8>)> {
    let mut rows: Vec<(Position, u32, Vec<u8>)> = Vec::new();
    let mut before = Position::ORIGIN;
    for Posting { position, weight } in postings {
        debug_assert!(*position > before, "postings are in order");
        match rows.last_mut() {
            Some((_, count, body)) if body.len() < ROW_BYTES_MAX => {
                *count += 1;
                varint::push(body, position.get() - before.get());
                varint::push(body, u64::from(*weight));
            }
            _ => {
                let mut body = Vec::new();
                varint::push(&mut body, u64::from(*weight));
                rows.push((*position, 1, body));
            }
        }
        before = *position;
    }
    let whole =
        rows.into_iter().map(|(first, count, body)| (first, [&count.to_be_bytes()[..], &body].concat()));
    whole.collect()
}

/// Reads a row back.
pub(crate) fn decode(first: Position, body: &[u8]) -> Result<Vec<Posting>, String> {
    let (count, mut rest) = body.split_first_chunk::<4>().ok_or("a list of places is too short")?;
    let count = u32::from_be_bytes(*count) as usize;
    // Each takes at least two bytes, but for the first: a count beyond that is damage, not a size to allocate.
    if count == 0 || 2 * count - 1 > rest.len() {
        return Err(format!("a list of places says that it has {count}"));
    }
    let mut postings = Vec::with_capacity(count);
    let mut position = first;
    for index in 0..count {
        if index > 0 {
            let distance = varint::take(&mut rest)?;
            let next = position.get().checked_add(distance).filter(|_| distance > 0);
            position = Position::new(next.ok_or("places are out of order")?);
        }
        let weight = u32::try_from(varint::take(&mut rest)?).map_err(|_| "a weight is too large")?;
        postings.push(Posting { position, weight });
    }
    if rest.is_empty() { Ok(postings) } else { Err("a list of places is too long".to_owned()) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn posting(position: u64, weight: u32) -> Posting {
        Posting { position: Position::new(position), weight }
    }

    fn read(rows: &[(Position, Vec<u8>)]) -> Vec<Posting> {
        rows.iter().flat_map(|(first, body)| decode(*first, body).unwrap()).collect()
    }

    proptest! {
        #[test]
        fn postings_read_back_in_rows_of_bounded_size(
            numbers in proptest::collection::btree_map(
                prop_oneof![1u64..100_000, 1u64..=u64::MAX], prop_oneof![0u32..400, any::<u32>()], 1..3_000,
            )
        ) {
            let postings: Vec<Posting> = numbers.into_iter().map(|(p, w)| posting(p, w)).collect();
            let rows = encode(&postings);
            prop_assert!(rows.iter().all(|(_, body)| body.len() < ROW_BYTES_MAX + 32));
            prop_assert_eq!(read(&rows), postings);
        }
    }

    #[test]
    fn long_lists_are_split() {
        let postings: Vec<Posting> = (1..=100_000).map(|n| posting(n * 300, 256)).collect();
        let rows = encode(&postings);
        assert!(rows.len() > 5);
        assert_eq!(read(&rows), postings);
    }

    #[test]
    fn damaged_lists_are_refused() {
        let first = Position::new(5);
        let long = [&[0, 0, 0, 2][..], &[1], &[0xff; 10], &[1, 1]].concat();
        let bodies = [
            &[0, 0, 0, 0][..],
            &[0, 0, 0, 1],
            &[0, 0, 0, 2, 1],
            &[0, 0, 0, 2, 1, 0, 1],
            &[0, 0, 0, 1, 1, 1],
            &[0xff; 9],
            &[0, 0],
            &long,
        ];
        for body in bodies {
            assert!(decode(first, body).is_err(), "{body:?}");
        }
    }
}
