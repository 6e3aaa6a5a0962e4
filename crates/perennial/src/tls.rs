//! The certificate: of two files that are looked at now and then, or made for one run.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use broker_http::Tls;
use event_log::limits::TLS_RELOAD_SECONDS;
use rustls::pki_types::PrivateKeyDer;
use tokio::signal::unix::{SignalKind, signal};

use crate::WrongUsage;
use crate::config::Config;

/// A certificate, and where it comes from.
pub(crate) struct Certificate {
    pub(crate) tls: Tls,
    files: Option<(PathBuf, PathBuf)>,
}

/// The certificate that the configuration or the command line asks for.
pub(crate) fn load(
    config: &Config,
    is_self_signed: bool,
    address: SocketAddr,
) -> anyhow::Result<Option<Certificate>> {
    match (&config.tls_certificate, &config.tls_key, is_self_signed) {
        (None, None, false) => Ok(None),
        (None, None, true) => Ok(Some(Certificate { tls: made_for_trial(address)?, files: None })),
        (Some(certificate), Some(key), false) => {
            let tls = Tls::from_files(certificate, key)?;
            Ok(Some(Certificate { tls, files: Some((certificate.clone(), key.clone())) }))
        }
        (_, _, true) => Err(WrongUsage(
            "--tls-self-signed makes a certificate; leave out tls_certificate and tls_key".into(),
        )
        .into()),
        _ => Err(WrongUsage("tls_certificate and tls_key belong together; give both".into()).into()),
    }
}

fn made_for_trial(address: SocketAddr) -> anyhow::Result<Tls> {
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    if !address.ip().is_unspecified() && !names.contains(&address.ip().to_string()) {
        names.push(address.ip().to_string());
    }
    let made = rcgen::generate_simple_self_signed(names).context("no certificate can be made")?;
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    tracing::warn!("the TLS certificate was made for this run, and nobody has a reason to trust it");
    Ok(Tls::for_trial(made.cert.der().clone(), key)?)
}

impl Certificate {
    /// Shows new connections what the files hold, as soon as that changes or SIGHUP asks. What is wrong with it is told, and
    /// the old certificate stays.
    pub(crate) async fn follow(self) -> anyhow::Result<()> {
        let Some((certificate, key)) = &self.files else { return std::future::pending().await };
        let mut hangups = signal(SignalKind::hangup()).context("signals cannot be listened to")?;
        let mut told = String::new();
        loop {
            tokio::select! {
                _ = hangups.recv() => {}
                () = tokio::time::sleep(Duration::from_secs(TLS_RELOAD_SECONDS)) => {}
            }
            told = self.look(certificate, key, told);
        }
    }

    /// Looks once. What was told last is not told again.
    fn look(&self, certificate: &Path, key: &Path, told: String) -> String {
        match self.tls.reload(certificate, key) {
            Ok(is_new) => {
                if is_new {
                    tracing::info!(certificate = %certificate.display(), "new connections see a new TLS certificate");
                }
                String::new()
            }
            Err(error) => {
                let error = error.to_string();
                if error != told {
                    tracing::error!(error, "the TLS certificate is not replaced");
                }
                error
            }
        }
    }
}
