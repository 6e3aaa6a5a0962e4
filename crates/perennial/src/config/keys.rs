//! The keys of the configuration: each with its default, and what it means.

/// A key, its default, and what it means.
pub(crate) type Key = (&'static str, &'static str, &'static str);

/// All keys.
pub(crate) fn all() -> impl Iterator<Item = Key> {
    GENERAL.iter().chain(LIMITS).copied()
}

/// What is no limit.
const GENERAL: &[Key] = &[
    ("listen", "127.0.0.1:8080", "address and port; port 0 picks a free one"),
    ("data", "./perennial-data", "directory of the log, made if it is not there"),
    ("heartbeat", "15s", "a stream without a byte for so long gets a comment line"),
    ("retry", "2s", "how long clients wait before they come back (plain number: milliseconds)"),
    ("stats_interval", "1s", "how often statistics are told to who follows $broker.stats; 0 is never"),
    ("idempotency_window", "24h", "how long a retried publish is recognised"),
    ("retention_interval", "10s", "how often policies are carried out"),
    ("tombstone_retention", "24h", "how long the tombstone of a key stays where a policy compacts"),
    ("allowed_origins", "", "web origins that may use the broker, with commas; loopback always may"),
    (
        "trusted_proxies",
        "",
        "addresses and networks of proxies that say with Forwarded or X-Forwarded-For who asks, with commas",
    ),
    (
        "auth_keys",
        "",
        "files of keys, with commas: PEM, a JWK set, a secret; with a key, tokens are asked for",
    ),
    ("auth_jwks", "", "a JWK set of public keys: a file, or an address that is asked now and then"),
    ("auth_jwks_refresh", "5m", "how often that address is asked"),
    ("auth_jwks_floor", "10s", "and at most, when tokens come that are signed with unknown keys"),
    ("auth_secret", "", "a secret of HS256; better in the environment, as others see arguments"),
    ("auth_audience", "", "names of this broker, with commas: a token's aud has to be one of them"),
    ("auth_issuer", "", "who may make tokens, with commas: a token's iss has to be one of them"),
    ("auth_clock_skew", "30s", "how far the clock of who makes tokens may be off"),
    ("auth_query_token", "false", "whether a token may come as the parameter access_token too"),
    ("auth_anonymous_subscribe", "", "patterns that may be read without a token, with commas"),
    ("tls_certificate", "", "PEM file of the certificate chain: everything is then said over TLS"),
    ("tls_key", "", "PEM file of the certificate's private key"),
    ("h2c", "false", "HTTP/2 in the clear, for proxies that begin with it"),
    ("workers", "0", "threads that serve connections; 0 is one for each processor"),
    ("cache", "64MiB", "memory for pages of the log"),
    // The web library calls each request that it cannot read an error: a line of the log for whoever wants to fill it.
    ("log", "info,actix_server=warn,actix_http::h1=off", "log filter, as in info or warn,broker=debug"),
    ("log_format", "human", "human or json"),
    ("demo_rate", "10", "trades a second that --demo plays"),
];

/// What clients may take; `docs/limits.md` says of each what is answered when it is reached.
pub(super) const LIMITS: &[Key] = &[
    ("max_connections", "110000", "most connections open at one time"),
    (
        "max_connections_per_address",
        "0",
        "most connections of one address, or of one IPv6 network of 64 bits; 0 is no limit",
    ),
    (
        "max_connections_per_subject",
        "0",
        "most connections of one token's subject, or without one of an address; 0 is no limit",
    ),
    ("max_streams", "100000", "most event streams open at one time"),
    ("max_streams_per_address", "0", "most event streams of one address; 0 is no limit"),
    ("max_streams_per_subject", "0", "most event streams of one subject; 0 is no limit"),
    ("max_patterns", "64", "most patterns of one event stream or reading"),
    ("max_head", "128KiB", "most bytes of a request's head"),
    ("max_url", "64KiB", "most bytes of a request's path and query"),
    ("lifetime", "0", "how long a stream lives, a tenth more or less; 0 is for ever"),
    ("max_replays", "0", "most streams that read history from the log at one time; 0 is no limit"),
    ("drain", "2s", "the longest time over which streams are ended when the broker stops"),
    ("max_bodies_in_flight", "256MiB", "most bytes of requests that are being received, of all together"),
    ("body_timeout", "5m", "how long the body of a request may take to come"),
    ("answer_timeout", "1m", "how long an answer may wait to be taken; event streams may wait for ever"),
    ("max_data", "256KiB", "most data of one event"),
    ("max_batch", "16MiB", "most bytes of one batch"),
    ("max_batch_events", "10000", "most events of one batch"),
    ("publish_rate", "0", "events that a subject may publish in a second; 0 is no limit"),
    ("publish_burst", "0", "events that it may publish at once; 0 is what publish_rate gives in a second"),
    ("publish_bytes", "0", "bytes that a subject may publish in a second; 0 is no limit"),
    (
        "publish_bytes_burst",
        "0",
        "bytes that it may publish at once; 0 is what publish_bytes gives in a second",
    ),
    ("min_free_disk", "64MiB", "with less room on the disk, publishing answers 507"),
];
