//! The configuration: flags over environment over file over defaults, each key with its name, default and range.
//!
//! A key that is not known is refused, so that a typing error never reads as a default; in the environment, which others
//! write to as well, it is warned of. Every
//! value is text until here; figment lays the layers over each other and remembers which of them a value came from. Its
//! own environment layer is not used: it guesses types, and would make the directory `0123` the number 123.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;

use broker::units::{self, Plain, show_bytes, show_duration};
use broker_http::{Limits, TrustedProxies};
use figment::providers::{Format, Toml};
use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};

use crate::WrongUsage;
use crate::authentication::{self, Jwks};
use crate::cli::ServeArgs;
use crate::jwks::{self, Source};
use crate::secret::Secret;
use crate::telemetry::LogFormat;
use crate::values::{self, within};

pub(crate) mod keys;
mod limits;

/// What the daemon runs with.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Config {
    pub(crate) listen: Vec<SocketAddr>,
    pub(crate) data: PathBuf,
    pub(crate) heartbeat: Duration,
    pub(crate) retry: Duration,
    pub(crate) stats_interval: Duration,
    pub(crate) idempotency_window: Duration,
    pub(crate) retention_interval: Duration,
    pub(crate) tombstone_retention: Duration,
    pub(crate) free_disk_bytes_min: u64,
    pub(crate) allowed_origins: Vec<String>,
    pub(crate) trusted_proxies: TrustedProxies,
    pub(crate) authentication: authentication::Settings,
    pub(crate) limits: Limits,
    pub(crate) workers: usize,
    pub(crate) tls_certificate: Option<PathBuf>,
    pub(crate) tls_key: Option<PathBuf>,
    pub(crate) h2c: bool,
    pub(crate) cache_bytes: u64,
    pub(crate) log: String,
    pub(crate) log_format: LogFormat,
    pub(crate) demo_rate: f64,
    /// What the operator should know about the configuration, once there is a log to tell it in.
    pub(crate) warnings: Vec<String>,
}

const ENVIRONMENT_PREFIX: &str = "PERENNIAL_";
/// The client's, not keys.
const ENVIRONMENT_OF_CLIENTS: [&str; 2] = ["PERENNIAL_URL", "PERENNIAL_TOKEN"];

impl Config {
    /// The configuration that the arguments, the environment and the file make together.
    pub(crate) fn load(
        args: &ServeArgs,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, WrongUsage> {
        let mut settings = Settings::defaults();
        if let Some(path) = &args.config {
            settings.add(file_layer(path)?)?;
        }
        let mut warnings = Vec::new();
        for layer in environment_layers(environment) {
            match layer.unknown_key() {
                // Container platforms and scripts set variables of their own under any prefix.
                Some(unknown) => warnings.push(layer.unknown(unknown)),
                None => settings.add(layer)?,
            }
        }
        for text in &args.set {
            settings.add(set_layer(text)?)?;
        }
        for (key, value) in [("listen", &args.listen), ("data", &args.data)] {
            if let Some(value) = value {
                settings.add(Layer::of(format!("--{key}"), key, value))?;
            }
        }
        Ok(Config { warnings, ..settings.config()? })
    }
}

/// The variables of the environment that may be keys.
pub(crate) fn environment() -> Result<Vec<(String, String)>, WrongUsage> {
    let named = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
    let ours = named.filter(|(name, _)| name.starts_with(ENVIRONMENT_PREFIX));
    ours.map(|(name, value)| match value.into_string() {
        Ok(value) => Ok((name, value)),
        Err(_) => Err(WrongUsage(format!("{name}: the value is not UTF-8; write it as UTF-8 text"))),
    })
    .collect()
}

/// Where values came from, and the values.
struct Layer {
    name: String,
    values: Dict,
}

impl Layer {
    fn of(name: String, key: &str, value: &str) -> Self {
        Layer { name, values: Dict::from([(key.to_owned(), Value::from(value))]) }
    }

    fn unknown_key(&self) -> Option<&str> {
        self.values.keys().map(String::as_str).find(|key| !keys::all().any(|(known, ..)| known == *key))
    }

    fn unknown(&self, key: &str) -> String {
        let nearest = nearest_key(key);
        format!(
            "{}: there is no configuration key {key:?}; did you mean {nearest}? (perennial serve --help lists all)",
            self.name
        )
    }
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Map::from([(Profile::Default, self.values.clone())]))
    }
}

fn file_layer(path: &Path) -> Result<Layer, WrongUsage> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path)
        .map_err(|error| WrongUsage(format!("the configuration file {name} cannot be read: {error}")))?;
    let mut profiles = Toml::string(&text).data().map_err(|error| {
        let error = error.to_string();
        // What is wrong is shown with its line, and that may be a secret.
        let shown = match text.contains("auth_secret") {
            true => error.lines().next().unwrap_or_default(),
            false => &error,
        };
        WrongUsage(format!("the configuration file {name} is not TOML: {shown}"))
    })?;
    Ok(Layer { name, values: profiles.remove(&Profile::Default).unwrap_or_default() })
}

/// An empty variable counts as absent, as shells and container files cannot always leave one out.
fn environment_layers(environment: impl Iterator<Item = (String, String)>) -> impl Iterator<Item = Layer> {
    environment
        .filter(|(name, value)| !ENVIRONMENT_OF_CLIENTS.contains(&&**name) && !value.is_empty())
        .filter_map(|(name, value)| {
            let key = name.strip_prefix(ENVIRONMENT_PREFIX)?.to_ascii_lowercase();
            Some(Layer::of(name, &key, &value))
        })
}

fn set_layer(text: &str) -> Result<Layer, WrongUsage> {
    let (key, value) = text.split_once('=').ok_or_else(|| {
        // What follows the name may be a secret.
        let name = text.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default();
        WrongUsage(format!("--set {name}: write key=value, as in --set heartbeat=5s"))
    })?;
    Ok(Layer::of(format!("--set {key}"), key, value))
}

struct Settings(Figment);

impl Settings {
    fn defaults() -> Self {
        let values = keys::all().map(|(key, value, _)| (key.to_owned(), Value::from(value))).collect();
        Settings(Figment::from(Layer { name: "default".to_owned(), values }))
    }

    fn add(&mut self, layer: Layer) -> Result<(), WrongUsage> {
        if let Some(unknown) = layer.unknown_key() {
            return Err(WrongUsage(layer.unknown(unknown)));
        }
        self.0 = std::mem::take(&mut self.0).merge(layer);
        Ok(())
    }

    /// One key's value, or a sentence that says where it was written, what is wrong and what would be right.
    fn read<T>(&self, key: &str, parse: impl Fn(&str) -> Result<T, String>) -> Result<T, WrongUsage> {
        let value = self.0.find_value(key).map_err(|error| WrongUsage(error.to_string()))?;
        text_of(&value).and_then(|text| parse(&text)).map_err(|problem| {
            let source = self.0.find_metadata(key).map_or("default", |metadata| &*metadata.name);
            WrongUsage(format!("{source}: {key}: {problem}"))
        })
    }

    fn duration(&self, key: &str, least: &str, most: &str) -> Result<Duration, WrongUsage> {
        let plain = if key == "retry" { Plain::Milliseconds } else { Plain::Seconds };
        self.read(key, |text| {
            let range = units::duration(least, plain)?..=units::duration(most, plain)?;
            within(units::duration(text, plain)?, range, show_duration)
        })
    }

    fn size(&self, key: &str, least: u64, most: usize) -> Result<usize, WrongUsage> {
        let size = self.read(key, |text| within(units::bytes(text)?, least..=most as u64, show_bytes))?;
        Ok(usize::try_from(size).unwrap_or(most))
    }

    fn count(&self, key: &str, least: u64, most: usize) -> Result<usize, WrongUsage> {
        let count = self.read(key, |text| within(units::count(text)?, least..=most as u64, |n| n))?;
        Ok(usize::try_from(count).unwrap_or(most))
    }

    fn config(&self) -> Result<Config, WrongUsage> {
        let authentication = self.authentication()?;
        authentication.check()?;
        let formats = [("human", LogFormat::Human), ("json", LogFormat::Json)];
        Ok(Config {
            listen: self.read("listen", addresses)?,
            data: self.read("data", directory)?,
            heartbeat: self.duration("heartbeat", "10ms", "1h")?,
            retry: self.duration("retry", "1ms", "1h")?,
            stats_interval: self.duration("stats_interval", "0ms", "1h")?,
            idempotency_window: self.duration("idempotency_window", "1ms", "366d")?,
            retention_interval: self.duration("retention_interval", "10ms", "1m")?,
            tombstone_retention: self.duration("tombstone_retention", "0ms", "366d")?,
            free_disk_bytes_min: self.read("min_free_disk", units::bytes)?,
            allowed_origins: self.read("allowed_origins", values::origins)?,
            trusted_proxies: self
                .read("trusted_proxies", |text| TrustedProxies::parse(values::list(text)))?,
            authentication,
            limits: self.limits()?,
            tls_certificate: self.read("tls_certificate", values::file)?,
            tls_key: self.read("tls_key", values::file)?,
            h2c: self.read("h2c", |text| values::word(text, &[("true", true), ("false", false)]))?,
            workers: self.count("workers", 0, 1_024)?,
            cache_bytes: self.size("cache", 1 << 20, 1 << 40)? as u64,
            log: self.read("log", |text| Ok(text.to_owned()))?,
            log_format: self.read("log_format", |text| values::word(text, &formats))?,
            demo_rate: self.read("demo_rate", values::rate)?,
            warnings: Vec::new(),
        })
    }
}

impl Settings {
    fn authentication(&self) -> Result<authentication::Settings, WrongUsage> {
        let words = |text: &str| Ok(values::list(text).map(str::to_owned).collect());
        let flags = [("true", true), ("false", false)];
        Ok(authentication::Settings {
            keys: self.read("auth_keys", |text| Ok(values::list(text).map(PathBuf::from).collect()))?,
            jwks: self.jwks()?,
            secret: self
                .read("auth_secret", |text| Ok(Some(text).filter(|text| !text.is_empty()).map(secret)))?,
            audiences: self.read("auth_audience", words)?,
            issuers: self.read("auth_issuer", words)?,
            clock_skew: self.duration("auth_clock_skew", "0s", "1h")?,
            query_token: self.read("auth_query_token", |text| values::word(text, &flags))?,
            anonymous_subscribe: self.read("auth_anonymous_subscribe", values::patterns)?,
        })
    }
}

impl Settings {
    fn jwks(&self) -> Result<Option<Jwks>, WrongUsage> {
        let every = self.duration("auth_jwks_refresh", "1s", "7d")?;
        let floor = self.duration("auth_jwks_floor", "1s", "1h")?;
        self.read("auth_jwks", |text| match text {
            "" => Ok(None),
            address if address.contains("://") => {
                Ok(Some(Jwks::Address(Source { url: jwks::address(address)?, every, floor })))
            }
            path => Ok(Some(Jwks::File(PathBuf::from(path)))),
        })
    }
}

fn secret(text: &str) -> Secret {
    Secret::new(text.to_owned())
}

/// A TOML value as it would be written elsewhere; an array is a list with commas.
fn text_of(value: &Value) -> Result<String, String> {
    if let Some(text) = value.as_str() {
        return Ok(text.to_owned());
    }
    if let Some(items) = value.as_array() {
        return items.iter().map(text_of).collect::<Result<Vec<_>, _>>().map(|items| items.join(","));
    }
    let number = value.to_u128().map(|n| n.to_string()).or_else(|| value.to_i128().map(|n| n.to_string()));
    number
        .or_else(|| value.to_f64().map(|n| n.to_string()))
        .or_else(|| value.to_bool().map(|b| b.to_string()))
        .ok_or_else(|| "it is a table; write one value, as in heartbeat = \"5s\"".to_owned())
}

fn addresses(text: &str) -> Result<Vec<SocketAddr>, String> {
    let right = "write address and port, as in 127.0.0.1:8080, [::1]:8080 or localhost:0";
    let found: Vec<SocketAddr> = text
        .to_socket_addrs()
        .map_err(|error| format!("{text:?} is no address to listen on ({error}); {right}"))?
        .collect();
    match found.is_empty() {
        true => Err(format!("{text:?} names no address; {right}")),
        false => Ok(found),
    }
}

fn directory(text: &str) -> Result<PathBuf, String> {
    match text.is_empty() {
        true => Err("it is empty; write a directory, as in ./perennial-data".to_owned()),
        false => Ok(PathBuf::from(text)),
    }
}

fn nearest_key(unknown: &str) -> &'static str {
    let unknown = unknown.to_ascii_lowercase().replace('-', "_");
    let distance = |key: &str| (strsim::jaro_winkler(key, &unknown) * 1e6) as u64;
    keys::all().map(|(key, ..)| key).max_by_key(|key| distance(key)).unwrap_or("listen")
}

#[cfg(test)]
mod tests;
