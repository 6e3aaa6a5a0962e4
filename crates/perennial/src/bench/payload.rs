//! The data of the events: who published it, as its how-manieth event, and when; then text that does not compress.
//!
//! The broker compresses what it stores, so text that repeats itself would make every figure better than a user's own data
//! will. It is ASCII without anything that JSON escapes, so that it is the same bytes in every shape.

use rand::Rng;

/// Shortest data: the stamp alone.
pub(crate) const DATA_BYTES_MIN: usize = STAMP_BYTES;

/// Hexadecimal digits of the run, of the publisher, of the number and of the time.
const FIELDS: [usize; 4] = [8, 4, 12, 16];
const STAMP_BYTES: usize = 40;
/// Text that the data are cut from. Larger than the window in which a compressor looks for repetitions.
const NOISE_BYTES: usize = 1 << 20;
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// What an event says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    /// Who published it, from 0.
    pub(super) publisher: u16,
    /// How many events of this publisher came before it.
    pub(super) number: u64,
    /// When it was sent or, at a rate, due: nanoseconds since the run began.
    pub(super) nanos: u64,
}

/// Data that is not what was published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Strange {
    /// It is not of this run.
    Foreign,
    /// It is of this run, but not as it was sent.
    Damaged,
}

/// Writes and reads the data of one run.
pub(super) struct Payload {
    run: u32,
    bytes: usize,
    noise: Vec<u8>,
}

impl Payload {
    /// Data of so many bytes, at least [`DATA_BYTES_MIN`].
    pub(super) fn new(bytes: usize) -> Self {
        assert!(bytes >= DATA_BYTES_MIN, "there is no room for the stamp");
        let mut random = rand::rng();
        let mut noise = vec![0; NOISE_BYTES + bytes];
        random.fill_bytes(&mut noise);
        noise.iter_mut().for_each(|byte| *byte = ALPHABET[usize::from(*byte % 64)]);
        Payload { run: random.next_u32(), bytes, noise }
    }

    /// Bytes of each event's data.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Writes the data of one event.
    pub(super) fn write(&self, stamp: Stamp, out: &mut [u8]) {
        let fields = [u64::from(self.run), u64::from(stamp.publisher), stamp.number, stamp.nanos];
        let (mut head, tail) = out.split_at_mut(STAMP_BYTES);
        for (value, digits) in fields.into_iter().zip(FIELDS) {
            let field;
            (field, head) = head.split_at_mut(digits);
            write_hex(value, field);
        }
        tail.copy_from_slice(self.noise_of(stamp));
    }

    /// Reads the data of one event, and checks every byte of it.
    pub(super) fn read(&self, data: &[u8]) -> Result<Stamp, Strange> {
        let Some((mut head, tail)) = data.split_at_checked(STAMP_BYTES) else { return Err(Strange::Foreign) };
        let mut fields = [0; 4];
        for (value, digits) in fields.iter_mut().zip(FIELDS) {
            let field;
            (field, head) = head.split_at(digits);
            *value = read_hex(field).ok_or(Strange::Foreign)?;
        }
        let [run, publisher, number, nanos] = fields;
        let stamp = Stamp { publisher: publisher as u16, number, nanos };
        match (run == u64::from(self.run), tail == self.noise_of(stamp)) {
            (true, true) => Ok(stamp),
            (true, false) => Err(Strange::Damaged),
            (false, _) => Err(Strange::Foreign),
        }
    }

    /// The text behind the stamp, another one for each event.
    fn noise_of(&self, stamp: Stamp) -> &[u8] {
        let begin = mix(stamp.number << 16 | u64::from(stamp.publisher)) as usize % NOISE_BYTES;
        &self.noise[begin..begin + self.bytes - STAMP_BYTES]
    }
}

/// Spreads every bit of a word over all of them.
pub(super) fn mix(mut word: u64) -> u64 {
    for factor in [0xBF58_476D_1CE4_E5B9, 0x94D0_49BB_1331_11EB] {
        word = (word ^ (word >> 31)).wrapping_mul(factor);
    }
    word ^ (word >> 30)
}

fn write_hex(mut value: u64, out: &mut [u8]) {
    for digit in out.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(value & 15) as usize];
        value >>= 4;
    }
}

fn read_hex(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0, |value, digit| match digit {
        b'0'..=b'9' => Some(value << 4 | u64::from(digit - b'0')),
        b'a'..=b'f' => Some(value << 4 | u64::from(digit - b'a' + 10)),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(payload: &Payload, stamp: Stamp) -> Vec<u8> {
        let mut data = vec![0; payload.bytes()];
        payload.write(stamp, &mut data);
        data
    }

    #[test]
    fn a_stamp_reads_back_from_data_of_any_size() {
        for bytes in [DATA_BYTES_MIN, 41, 256, 70_000] {
            let payload = Payload::new(bytes);
            for stamp in [
                Stamp { publisher: 0, number: 0, nanos: 0 },
                Stamp { publisher: u16::MAX, number: (1 << 48) - 1, nanos: u64::MAX },
            ] {
                let data = data(&payload, stamp);
                assert_eq!((data.len(), payload.read(&data)), (bytes, Ok(stamp)));
                assert!(data.iter().all(|byte| ALPHABET.contains(byte)));
            }
        }
    }

    #[test]
    fn data_of_others_is_foreign_and_changed_data_is_damaged() {
        let (payload, other) = (Payload::new(64), Payload::new(64));
        let stamp = Stamp { publisher: 1, number: 2, nanos: 3 };
        let mut data = data(&payload, stamp);
        assert_eq!(other.read(&data), Err(Strange::Foreign));
        assert_eq!(payload.read(b"short"), Err(Strange::Foreign));
        assert_eq!(payload.read(&data[..63]), Err(Strange::Damaged));
        data[63] = b'!';
        assert_eq!(payload.read(&data), Err(Strange::Damaged));
    }
}
