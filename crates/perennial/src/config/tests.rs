use std::io::Write;

use event_log::limits;

use super::*;

fn args(flags: &[&str]) -> ServeArgs {
    use clap::Parser;
    #[derive(Parser)]
    struct Wrapper {
        #[command(flatten)]
        args: ServeArgs,
    }
    Wrapper::try_parse_from(std::iter::once("serve").chain(flags.iter().copied())).unwrap().args
}

fn load(flags: &[&str], environment: &[(&str, &str)]) -> Result<Config, String> {
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::load(&args(flags), environment).map_err(|error| error.0)
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

#[test]
fn the_defaults_are_those_of_the_limits() {
    let config = load(&[], &[]).unwrap();
    assert_eq!(config.listen, ["127.0.0.1:8080".parse().unwrap()]);
    assert_eq!(config.data, Path::new("./perennial-data"));
    assert_eq!((config.heartbeat, config.retry), (Duration::from_secs(15), Duration::from_secs(2)));
    assert_eq!(config.stats_interval.as_millis(), u128::from(limits::STATS_INTERVAL_MILLIS_DEFAULT));
    assert_eq!(config.idempotency_window.as_micros(), u128::from(limits::IDEMPOTENCY_WINDOW_MICROS_DEFAULT));
    let retention = broker::Options {
        retention_interval: config.retention_interval,
        tombstone_retention: config.tombstone_retention,
    };
    assert_eq!(retention, broker::Options::default());
    assert_eq!(config.limits.data_bytes_max, limits::DATA_BYTES_DEFAULT);
    assert_eq!(config.limits.batch_bytes_max, limits::BATCH_BYTES_DEFAULT);
    assert_eq!(config.limits.batch_events_max, limits::BATCH_EVENTS_DEFAULT);
    assert_eq!(config.free_disk_bytes_min, limits::FREE_DISK_BYTES_DEFAULT);
    assert_eq!(config.limits.streams_max, limits::STREAMS_DEFAULT);
    assert!(config.allowed_origins.is_empty());
}

#[test]
fn flags_go_over_the_environment_over_the_file_over_defaults() {
    let file = file("heartbeat = \"1s\"\nretry = 100\nmax_batch_events = 7\nlisten = \"127.0.0.1:1\"\n");
    let path = file.path().to_str().unwrap();
    let environment =
        [("PERENNIAL_HEARTBEAT", "2s"), ("PERENNIAL_RETRY", "200"), ("PERENNIAL_LISTEN", "127.0.0.1:2")];
    let config =
        load(&["--config", path, "--set", "heartbeat=3s", "--listen", "127.0.0.1:3"], &environment).unwrap();
    assert_eq!(config.heartbeat, Duration::from_secs(3));
    assert_eq!(config.retry, Duration::from_millis(200));
    assert_eq!(config.limits.batch_events_max, 7);
    assert_eq!(config.listen[0].port(), 3);
}

#[test]
fn every_key_can_be_set_to_its_own_default() {
    for (key, value, _) in keys::all() {
        let flag = format!("{key}={value}");
        assert!(load(&["--set", &flag], &[]).is_ok(), "{flag}");
    }
}

#[test]
fn a_file_may_hold_lists_numbers_and_texts() {
    let file = file(
        "allowed_origins = [\"https://a.example\", \"https://b.example\"]\ndemo_rate = 2.5\nworkers = 3\ndata = \"0123\"",
    );
    let config = load(&["--config", file.path().to_str().unwrap()], &[]).unwrap();
    assert_eq!(config.allowed_origins, ["https://a.example", "https://b.example"]);
    assert_eq!((config.demo_rate, config.workers), (2.5, 3));
    assert_eq!(config.data, Path::new("0123"));
}

#[test]
fn what_looks_like_a_number_in_the_environment_stays_text() {
    let config = load(&[], &[("PERENNIAL_DATA", "0123")]).unwrap();
    assert_eq!(config.data, Path::new("0123"));
}

#[test]
fn an_unknown_key_is_refused_and_the_nearest_is_named() {
    let file = file("hartbeat = \"1s\"");
    let path = file.path().to_str().unwrap();
    for (flags, nearest) in [
        (vec!["--config", path], "did you mean heartbeat?"),
        (vec!["--set", "max-data=1"], "did you mean max_data?"),
    ] {
        let error = load(&flags, &[]).unwrap_err();
        assert!(error.contains(nearest), "{error}");
    }
}

/// A container platform sets PERENNIAL_PORT and the like for a service of this name.
#[test]
fn an_unknown_key_in_the_environment_is_warned_of() {
    let config = load(&[], &[("PERENNIAL_ALLOWED_ORIGIN", "https://a.example")]).unwrap();
    assert!(config.warnings[0].contains("did you mean allowed_origins?"), "{:?}", config.warnings);
    let none = load(&[], &[("PERENNIAL_URL", "http://127.0.0.1:1"), ("PATH", "/bin"), ("PERENNIAL_LOG", "")]);
    assert!(none.unwrap().warnings.is_empty());
}

#[test]
fn a_bad_value_is_refused_with_where_it_stands_and_what_would_be_right() {
    for (flag, expected) in [
        ("heartbeat=soon", "--set heartbeat: heartbeat: \"soon\" is not a duration"),
        ("heartbeat=2h", "2h is out of range; it may be 10ms to 1h"),
        ("tombstone_retention=367d", "it may be 0ms to 366d"),
        ("retry=0", "it may be 1ms to 1h"),
        ("max_data=17MiB", "17MiB is out of range; it may be 1 to 16MiB"),
        ("max_batch=1GiB", "it may be 1 to 64MiB"),
        ("max_batch_events=0", "0 is out of range"),
        ("workers=two", "is not a whole number"),
        ("log_format=xml", "is none of: human, json"),
        ("allowed_origins=*", "is not a web origin"),
        ("listen=nowhere", "write address and port"),
        ("data=", "write a directory"),
        ("demo_rate=1000", "0.1 to 200"),
        ("heartbeat", "write key=value"),
    ] {
        let error = load(&["--set", flag], &[]).unwrap_err();
        assert!(error.contains(expected), "{flag}: {error}");
    }
    let error = load(&[], &[("PERENNIAL_MAX_DATA", "much")]).unwrap_err();
    assert!(error.starts_with("PERENNIAL_MAX_DATA: max_data: "), "{error}");
}

#[test]
fn a_secret_is_shown_nowhere() {
    const SECRET: &str = "0123456789abcdef0123456789abcdef";
    let config = load(&[], &[("PERENNIAL_AUTH_SECRET", SECRET), ("PERENNIAL_TOKEN", "token")]).unwrap();
    assert!(config.warnings.is_empty(), "a client's token is no key");
    assert!(config.authentication.load().unwrap().is_some());
    let shown = format!("{config:?} {:?}", config.authentication.load());
    assert!(!shown.contains(SECRET), "{shown}");
    for broken in [format!("auth_secret = {SECRET}"), format!("auth_secret = \"{SECRET}")] {
        let broken = file(&broken);
        let error = load(&["--config", broken.path().to_str().unwrap()], &[]).unwrap_err();
        assert!(error.contains("is not TOML") && !error.contains(SECRET), "{error}");
    }
    let error = load(&["--set", &format!("auth_secret:{SECRET}")], &[]).unwrap_err();
    assert!(!error.contains(SECRET), "{error}");
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    assert!(load(&["--config", "absent.toml"], &[]).unwrap_err().contains("absent.toml"));
    let table = file("[heartbeat]\nevery = \"1s\"");
    assert!(load(&["--config", table.path().to_str().unwrap()], &[]).unwrap_err().contains("it is a table"));
    let broken = file("heartbeat = ");
    assert!(load(&["--config", broken.path().to_str().unwrap()], &[]).unwrap_err().contains("is not TOML"));
}
