//! Every bound of the broker, in one place. Units come last in each name.
//!
//! What an operator may change is only a default here, and the configuration says so.

/// Longest topic or pattern, in bytes of UTF-8.
pub const TOPIC_BYTES_MAX: usize = 512;
/// Longest event type, in bytes of UTF-8.
pub const TYPE_BYTES_MAX: usize = 255;
/// Longest key, origin or idempotency key, in bytes of UTF-8.
pub const NAME_BYTES_MAX: usize = 512;

/// Default of `max_data`: the most data that one event may carry. Common clients choke on more.
pub const DATA_BYTES_DEFAULT: usize = 256 * KIB;
/// The most that `max_data` may be set to: an event must fit into memory many times over.
pub const DATA_BYTES_CEILING: usize = 16 * MIB;
/// Default of `max_batch_events`: events in one batch.
pub const BATCH_EVENTS_DEFAULT: usize = 10_000;
/// Default of `max_batch`: bytes of one batch's body.
pub const BATCH_BYTES_DEFAULT: usize = 16 * MIB;
/// The most that `max_batch` may be set to.
pub const BATCH_BYTES_CEILING: usize = 64 * MIB;

/// Longest line of an archive: an event at its largest, when each of its bytes has to be escaped with six.
pub const ARCHIVE_LINE_BYTES_MAX: usize = 6 * DATA_BYTES_CEILING + 16 * KIB;

/// Places that an archive must leave behind its newest one, for what is published to its copy: a million a second for nine years.
pub const PLACES_BEHIND_IMPORT_MIN: u64 = 1 << 48;

/// Default of `min_free_disk`: below this much room on the disk publishing answers 507 and reading goes on.
pub const FREE_DISK_BYTES_DEFAULT: u64 = 64 * MIB as u64;
/// Default of `idempotency_window`, in microseconds: 24 hours.
pub const IDEMPOTENCY_WINDOW_MICROS_DEFAULT: u64 = 24 * 3_600 * 1_000_000;

/// Requests that may wait for the writer; one more is told to come back.
pub const APPEND_QUEUE_REQUESTS_MAX: usize = 16_384;
/// Bytes of events that may be appended in a second once [`DEBRIS_BYTES_MAX`] is passed; where it is passed so many times, a share of
/// these by the square of that.
pub const SLOWED_APPEND_BYTES_PER_SECOND: u32 = 24 * MIB as u32;
/// Bytes of removed events that may wait to be given back, beside a quarter of what is kept, before appends are slowed down.
pub const DEBRIS_BYTES_MAX: u64 = 48 * MIB as u64;
/// Removals, packs and checkpoints that may wait for the writer; one more waits to be taken.
pub const UPKEEP_QUEUE_REQUESTS_MAX: usize = 64;
/// Bytes of events that may wait for the writer; more is told to come back.
pub const APPEND_QUEUE_BYTES_MAX: usize = 128 * MIB;
/// A group commit takes no further request once it holds this many bytes.
pub const COMMIT_BYTES_MAX: usize = 4 * MIB;
/// A group commit takes no further request once it holds this many.
pub const COMMIT_REQUESTS_MAX: usize = 4_096;

/// Bytes that are written ahead of the events, so that a barrier does not wait for the length of their file: the most, and never
/// more than the file holds.
pub const SEGMENT_AHEAD_BYTES_MAX: usize = 256 * KIB;

/// Bytes of a request's head: what the HTTP library takes, and the most that `max_head` may be set to.
pub const HEAD_BYTES_MAX: usize = 128 * KIB;
/// Bytes of a request's path and query: what the HTTP library takes, and the most that `max_url` may be set to.
pub const URL_BYTES_MAX: usize = 64 * KIB;
/// Patterns of one subscription, and the most that `max_patterns` may be set to.
pub const PATTERNS_MAX: usize = 64;
/// `type=` filters of one subscription.
pub const TYPES_MAX: usize = 64;
/// Most events of one JSON page.
pub const JSON_PAGE_EVENTS_MAX: usize = 10_000;
/// Default events of one JSON page.
pub const JSON_PAGE_EVENTS_DEFAULT: usize = 100;
/// Longest `wait=` of a JSON page, in seconds.
pub const WAIT_SECONDS_MAX: u64 = 60;
/// Longest query string, in bytes: room for the most patterns at their longest, and less than the 64 KiB at which HTTP
/// libraries give up without a word of why.
pub const QUERY_BYTES_MAX: usize = 60 * KIB;

/// Default of `max_bodies_in_flight`: bytes of requests' bodies that are being received at one time, of all together.
pub const BODIES_BYTES_DEFAULT: usize = 256 * MIB;
/// The most that `max_bodies_in_flight` may be set to.
pub const BODIES_BYTES_CEILING: usize = 1_024 * 1_024 * MIB;
/// Default of `body_timeout`, in seconds.
pub const BODY_SECONDS_DEFAULT: u64 = 300;
/// Default of `answer_timeout`, in seconds.
pub const ANSWER_SECONDS_DEFAULT: u64 = 60;

/// Longest token, in bytes. A longer one is refused before anything in it is read.
pub const TOKEN_BYTES_MAX: usize = 8 * KIB;
/// Longest `sub` or `jti` of a token, in bytes: they are kept in keys of events, which have a word before them.
pub const TOKEN_NAME_BYTES_MAX: usize = 256;
/// The last second that a token may name: that of the year 9999, behind which times have no form to be shown in.
pub const TOKEN_SECONDS_MAX: u64 = 253_402_300_799;
/// Shortest secret of HS256, in bytes: as long as its hash (RFC 7518, 3.2).
pub const SECRET_BYTES_MIN: usize = 32;
/// Shortest RSA key, in bits (RFC 7518, 3.3).
pub const RSA_BITS_MIN: usize = 2_048;
/// Keys that tokens are verified with: a token that names none may be tried with each.
pub const KEYS_MAX: usize = 64;
/// Largest file of keys, and largest set that an address answers with.
pub const KEYS_BYTES_MAX: usize = 256 * KIB;
/// Revocations that are remembered: each change makes their list anew.
pub const REVOCATIONS_MAX: usize = 100_000;
/// Bytes of a request's body that carries a revocation.
pub const REVOCATION_BYTES_MAX: usize = 4 * KIB;
/// Default of `auth_clock_skew`, in seconds: how far the clock of who issues tokens may be off.
pub const CLOCK_SKEW_SECONDS_DEFAULT: u64 = 30;

/// Events that a reader takes at a time.
pub const PAGE_EVENTS_MAX: usize = 512;
/// Bytes of events that a reader takes at a time (one event may be larger).
pub const PAGE_BYTES_MAX: usize = 64 * KIB;
/// Events that a stream takes from the log at a time while it replays.
pub const REPLAY_PAGE_EVENTS_MAX: usize = 1_024;
/// Bytes of events that a stream takes from the log at a time while it replays (one event may be larger). A page costs a
/// turn, a write and, from the disk, a hop to a thread that may block, so larger ones are cheaper; as frames it is what a slow
/// reader holds.
pub const REPLAY_PAGE_BYTES_MAX: usize = 160 * KIB;
/// Bytes of log that one read may walk past without a match before it answers with an empty page.
pub const PAGE_SCAN_BYTES_MAX: usize = 4 * MIB;
/// Bytes of log that one read along the index may read before it answers: each part of them lies elsewhere on the disk, and
/// whoever waits for the first event waits for all of them.
pub const PAGE_SEEK_BYTES_MAX: usize = 512 * KIB;
/// Texts of an event that is encoded behind the others of its page when it is replayed; a larger one is shared. Short enough
/// that its frame is one piece, whatever in it is escaped.
pub const SMALL_EVENT_BYTES_MAX: usize = FRAME_PIECE_BYTES_MAX / 8;
/// Largest piece of a stream that is handed to the socket at once; a larger frame goes in several.
pub const FRAME_PIECE_BYTES_MAX: usize = 64 * KIB;

/// Bytes of recent events that are kept in memory for the streams that follow the head.
pub const RECENT_BYTES_MAX: usize = 16 * MIB;
/// Recent events that are kept in memory for the streams that follow the head.
pub const RECENT_EVENTS_MAX: usize = 65_536;
/// Places of recent events that one pattern remembers.
pub const RECENT_PLACES_PER_PATTERN_MAX: usize = 16_384;

/// Default of `retention_interval`, in milliseconds: 10 seconds.
pub const RETENTION_INTERVAL_MILLIS_DEFAULT: u64 = 10_000;
/// Default of `tombstone_retention`, in milliseconds: 24 hours.
pub const TOMBSTONE_RETENTION_MILLIS_DEFAULT: u64 = 24 * 3_600 * 1_000;
/// Removals that the log is asked for at a time.
pub const REMOVALS_PER_STEP_MAX: usize = 64;
/// Bytes of a request's body that carries a policy.
pub const POLICY_BYTES_MAX: usize = 4 * KIB;

/// Statistics that are kept on `$broker.stats`, and how many more there may be before the old ones are removed.
pub const STATS_EVENTS_MAX: u64 = 600;
/// See [`STATS_EVENTS_MAX`].
pub const STATS_EVENTS_SLACK: u64 = 60;
/// Default of `stats_interval`, in milliseconds.
pub const STATS_INTERVAL_MILLIS_DEFAULT: u64 = 1_000;

/// The most that a rate of publishing may be set to, in events a second.
pub const PUBLISH_RATE_CEILING: u64 = 10_000_000;
/// The most that a rate of publishing may be set to, in bytes a second.
pub const PUBLISH_BYTES_CEILING: u64 = 4 * 1_024 * MIB as u64;
/// Subjects whose rate of publishing is remembered; who published nothing for the longest is forgotten first.
pub const RATED_SUBJECTS_MAX: usize = 65_536;

/// Default of `max_connections`: connections open at one time, which are event streams and others.
pub const CONNECTIONS_DEFAULT: usize = STREAMS_DEFAULT + 10_000;
/// The most that a number of connections or streams may be set to.
pub const CONNECTIONS_CEILING: usize = 10_000_000;
/// Default of `max_streams`: event streams open at one time.
pub const STREAMS_DEFAULT: usize = 100_000;
/// Default of `drain`, in milliseconds: the longest time over which streams are ended when the broker stops.
pub const DRAIN_MILLIS_DEFAULT: u64 = 2_000;
/// Fewer streams are ended in less time: so many milliseconds for each.
pub const DRAIN_MILLIS_PER_STREAM: u64 = 5;
/// Threads that read from disk.
pub const READ_THREADS: usize = 4;

/// How long a client may take to agree on keys, in seconds.
pub const TLS_HANDSHAKE_SECONDS_MAX: u64 = 10;
/// How often the files of the TLS certificate are looked at, in seconds.
pub const TLS_RELOAD_SECONDS: u64 = 10;

/// 1,024 bytes.
pub const KIB: usize = 1_024;
/// 1,024 KiB.
pub const MIB: usize = 1_024 * KIB;
