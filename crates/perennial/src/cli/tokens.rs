//! The commands that make keys and tokens.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// Make a token, and print it
///
/// It is signed with a private key, or with the secret in PERENNIAL_AUTH_SECRET, and is good with
/// every broker that has the public key (auth_keys) or the same secret:
///
///   perennial token --key perennial.key --subject desk-1 --publish 'stocks.*' --ttl 12h
///
///   export PERENNIAL_TOKEN=$(perennial token --key perennial.key --subscribe 'stocks.**')
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct TokenArgs {
    /// File of the private key or secret, as `perennial keys generate` makes it
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
    /// Topics that it may publish to; may be repeated
    #[arg(long, value_name = "PATTERN")]
    pub(crate) publish: Vec<String>,
    /// Topics that it may read; may be repeated
    #[arg(long, value_name = "PATTERN")]
    pub(crate) subscribe: Vec<String>,
    /// It may administer: policies, purges, connections, exports, revocations, status, metrics
    #[arg(long)]
    pub(crate) admin: bool,
    /// How long it is good, as in 15m, 12h or 7d
    #[arg(long, value_name = "DURATION", default_value = "1h")]
    pub(crate) ttl: String,
    /// Whom it speaks for (sub)
    #[arg(long, value_name = "NAME")]
    pub(crate) subject: Option<String>,
    /// Its own name (jti), by which it can be revoked; a random one if it is not given
    #[arg(long, value_name = "NAME")]
    pub(crate) id: Option<String>,
    /// Which broker it is for (aud), where auth_audience is set
    #[arg(long, value_name = "NAME")]
    pub(crate) audience: Option<String>,
    /// Who made it (iss), where auth_issuer is set
    #[arg(long, value_name = "NAME")]
    pub(crate) issuer: Option<String>,
}

/// Make keys that sign tokens.
#[derive(Debug, Args)]
pub(crate) struct KeysArgs {
    #[command(subcommand)]
    pub(crate) command: KeysCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    Generate(KeysGenerateArgs),
}

/// Make a key: the private one in a file that only its owner may read, the public one on standard output
///
/// The private key makes tokens and stays with who makes them; the broker needs the public one:
///
///   perennial keys generate perennial.key > perennial.pub
///
///   perennial serve --set auth_keys=perennial.pub
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct KeysGenerateArgs {
    /// File of the private key; one that is there already is never written over
    #[arg(value_name = "FILE")]
    pub(crate) private: PathBuf,
    /// How tokens are signed. HS256 has one secret that does both: whoever can verify can sign
    #[arg(long, value_name = "ALGORITHM", default_value = "EdDSA",
          value_parser = ["HS256", "RS256", "ES256", "EdDSA"])]
    pub(crate) alg: String,
}
