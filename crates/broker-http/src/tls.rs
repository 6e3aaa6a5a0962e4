//! Transport Layer Security: which certificate is shown, and how a connection begins that is to be private.
//!
//! All of the protocol is rustls's, versions 1.2 and 1.3 (it knows no older ones). The certificate can be replaced while the
//! broker serves: connections that exist keep what they agreed on, new ones see the new one.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use event_log::limits::TLS_HANDSHAKE_SECONDS_MAX;
use parking_lot::RwLock;
use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{ServerConfig, crypto::CryptoProvider};
use tokio::net::TcpStream;
use tokio::time::{Duration, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// The protocols that are spoken over TLS, the better one first (RFC 7301).
const HTTP_2: &[u8] = b"h2";
const HTTP_1: &[u8] = b"http/1.1";

/// A certificate that cannot be used, and what would be right.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or what it must hold is not in it.
    #[error("{what} {path}: {error}; it must be PEM text, as certificate authorities hand it out", path = path.display())]
    File {
        /// Which of the two files.
        what: &'static str,
        /// Where it was looked for.
        path: PathBuf,
        /// What was wrong.
        error: pem::Error,
    },
    /// The key is not that of the certificate, or is of a kind that is not known.
    #[error("the TLS certificate and its key cannot be used together: {0}")]
    Pair(#[from] rustls::Error),
}

/// What a server with TLS shows and speaks. A clone shows the same certificate, also once it is replaced.
#[derive(Debug, Clone)]
pub struct Tls {
    shown: Arc<Shown>,
    config: Arc<ServerConfig>,
    is_lasting: bool,
}

impl Tls {
    /// The certificate chain and the private key of two PEM files. Browsers are told to come back with TLS only.
    pub fn from_files(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        Tls::new(pair_in(certificate, key)?, true)
    }

    /// A certificate that is forgotten when the broker ends, so that no browser is told to insist on TLS here.
    pub fn for_trial(
        certificate: CertificateDer<'static>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, TlsError> {
        Tls::new(CertifiedKey::from_der(vec![certificate], key, &provider())?, false)
    }

    fn new(pair: CertifiedKey, is_lasting: bool) -> Result<Self, TlsError> {
        let shown = Arc::new(Shown(RwLock::new(Arc::new(pair))));
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13, &TLS12])?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&shown) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![HTTP_2.to_vec(), HTTP_1.to_vec()];
        Ok(Tls { shown, config: Arc::new(config), is_lasting })
    }

    /// Shows what the files hold now to new connections, and returns whether that is something else. After an error the
    /// old certificate stays.
    pub fn reload(&self, certificate: &Path, key: &Path) -> Result<bool, TlsError> {
        let pair = pair_in(certificate, key)?;
        let mut shown = self.shown.0.write();
        let is_new = pair.cert != shown.cert;
        if is_new {
            *shown = Arc::new(pair);
        }
        Ok(is_new)
    }

    /// Whether browsers may be told to insist on TLS here (RFC 6797).
    pub(crate) fn is_lasting(&self) -> bool {
        self.is_lasting
    }

    /// Agrees with a client on keys; nothing if it does not, or takes too long.
    pub(crate) async fn accept(&self, socket: TcpStream) -> Option<TlsStream<TcpStream>> {
        let patience = Duration::from_secs(TLS_HANDSHAKE_SECONDS_MAX);
        let accepted = timeout(patience, TlsAcceptor::from(Arc::clone(&self.config)).accept(socket)).await;
        accepted.ok()?.inspect_err(|error| tracing::debug!(%error, "a TLS handshake failed")).ok()
    }
}

/// Whether the client chose HTTP/2.
pub(crate) fn is_http_2(stream: &TlsStream<TcpStream>) -> bool {
    stream.get_ref().1.alpn_protocol() == Some(HTTP_2)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn pair_in(certificate: &Path, key: &Path) -> Result<CertifiedKey, TlsError> {
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(|items| items.collect::<Result<Vec<_>, _>>())
        .and_then(|chain| if chain.is_empty() { Err(pem::Error::NoItemsFound) } else { Ok(chain) });
    let in_file = |what, path: &Path, error| TlsError::File { what, path: path.to_owned(), error };
    let chain = chain.map_err(|error| in_file("the TLS certificate", certificate, error))?;
    let key = PrivateKeyDer::from_pem_file(key)
        .map_err(|error| in_file("the key of the TLS certificate", key, error))?;
    Ok(CertifiedKey::from_der(chain, key, &provider())?)
}

/// The certificate that new connections see.
#[derive(Debug)]
struct Shown(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read()))
    }
}
