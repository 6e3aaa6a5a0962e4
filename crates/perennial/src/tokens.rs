//! `perennial token` and `perennial keys`: what signs tokens, and tokens. Neither asks a broker.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::Context;
use auth::{Algorithm, Grants, NewToken, SigningKey, generate};
use broker::units::{self, Plain};
use event_log::limits::{TOKEN_BYTES_MAX, TOKEN_NAME_BYTES_MAX, TOKEN_SECONDS_MAX};
use event_log::{Clock, Pattern, SystemClock, Timestamp};
use rand::RngExt;

use crate::cli::{KeysCommand, KeysGenerateArgs, TokenArgs};
use crate::client::table;
use crate::{WrongUsage, tell};

/// Only its owner may read a private key.
const PRIVATE_MODE: u32 = 0o600;
const SECRET_VARIABLE: &str = "PERENNIAL_AUTH_SECRET";

pub(crate) fn token(args: &TokenArgs) -> anyhow::Result<()> {
    let key = signing_key(args.key.as_deref())?;
    let grants = Grants {
        publish: patterns("--publish", &args.publish)?,
        subscribe: patterns("--subscribe", &args.subscribe)?,
        admin: args.admin,
    };
    let now = SystemClock.now();
    let expires = expires(now, &args.ttl)?;
    let token_id = match name("--id", &args.id)? {
        Some(id) => id,
        None => format!("{:032x}", rand::rng().random::<u128>()),
    };
    let told = format!("the token's id is {token_id}; it is good until {expires}");
    let token = key.sign(&NewToken {
        subject: name("--subject", &args.subject)?,
        token_id: Some(token_id),
        audience: args.audience.clone(),
        issuer: args.issuer.clone(),
        issued: now,
        expires,
        grants,
    })?;
    if token.len() > TOKEN_BYTES_MAX {
        let detail = format!("the token has {} bytes; a broker reads at most {TOKEN_BYTES_MAX}", token.len());
        return Err(WrongUsage(detail).into());
    }
    tell(&told);
    Ok(table::print(format!("{token}\n").as_bytes())?)
}

fn signing_key(path: Option<&Path>) -> anyhow::Result<SigningKey> {
    if let Some(path) = path {
        let shown = path.display();
        let text = std::fs::read(path).with_context(|| format!("the key {shown} cannot be read"))?;
        return SigningKey::from_file(&text).with_context(|| format!("the key {shown} cannot be used"));
    }
    match std::env::var(SECRET_VARIABLE) {
        Ok(secret) if !secret.is_empty() => SigningKey::from_file(secret.as_bytes())
            .with_context(|| format!("the secret in {SECRET_VARIABLE} cannot be used")),
        _ => Err(WrongUsage(format!(
            "name the file of a private key with --key, or put a secret into {SECRET_VARIABLE}; perennial keys generate \
             makes either"
        ))
        .into()),
    }
}

fn patterns(flag: &str, texts: &[String]) -> Result<Vec<Pattern>, WrongUsage> {
    let parsed = texts.iter().map(|text| Pattern::parse(text.clone())).collect::<Result<_, _>>();
    parsed.map_err(|invalid| WrongUsage(format!("{flag}: {}", invalid.detail)))
}

fn name(flag: &str, text: &Option<String>) -> Result<Option<String>, WrongUsage> {
    let fits =
        |text: &String| (1..=TOKEN_NAME_BYTES_MAX).contains(&text.len()) && !text.contains(char::is_control);
    match text {
        Some(text) if !fits(text) => Err(WrongUsage(format!(
            "{flag}: write 1 to {TOKEN_NAME_BYTES_MAX} bytes without control characters"
        ))),
        text => Ok(text.clone()),
    }
}

fn expires(now: Timestamp, ttl: &str) -> Result<Timestamp, WrongUsage> {
    let ttl =
        units::duration(ttl, Plain::Seconds).map_err(|problem| WrongUsage(format!("--ttl: {problem}")))?;
    let micros = u64::try_from(ttl.as_micros()).unwrap_or(u64::MAX).saturating_add(now.as_micros());
    match micros <= TOKEN_SECONDS_MAX * 1_000_000 && ttl.as_secs() > 0 {
        true => Ok(Timestamp::from_micros(micros)),
        false => Err(WrongUsage("--ttl: write at least 1s, and no more than to the year 9999".to_owned())),
    }
}

pub(crate) fn keys(command: &KeysCommand) -> anyhow::Result<()> {
    let KeysCommand::Generate(KeysGenerateArgs { private, alg }) = command;
    let algorithm =
        Algorithm::ALL.into_iter().find(|known| known.name() == alg).context("no such algorithm")?;
    let key = generate(algorithm)?;
    let shown = private.display();
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(PRIVATE_MODE)
        .open(private)
        .with_context(|| format!("the private key cannot be written to {shown}"))?;
    file.write_all(key.private.as_bytes())
        .and_then(|()| file.sync_all())
        .with_context(|| format!("the private key cannot be written to {shown}"))?;
    match key.public {
        Some(public) => {
            tell(&format!("the private key is in {shown}; the public one goes to the broker, as auth_keys"));
            Ok(table::print(public.as_bytes())?)
        }
        None => {
            tell(&format!("the secret is in {shown}; the broker needs the same file, as auth_keys"));
            Ok(())
        }
    }
}
