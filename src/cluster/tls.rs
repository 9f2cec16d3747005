//! TLS to the servers: the certificates of the options, checked once.

use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use std::sync::Arc;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls;

/// Options of TLS; texts are PEM.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct TlsOptions {
    /// Certificates of the authorities that are trusted; the system's if there are none.
    pub ca: Option<String>,
    /// Certificate of this client, and those of its authorities.
    pub cert: Option<String>,
    /// Private key of `cert`.
    pub key: Option<String>,
    /// Name that the server's certificate has to carry, if it is not the host's.
    pub server_name: Option<String>,
}

// By hand: a derived one would show the private key.
impl std::fmt::Debug for TlsOptions {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("TlsOptions")
    }
}

/// TLS, ready to connect.
pub(super) struct Tls {
    pub(super) connector: TlsConnector,
    server_name: Option<ServerName<'static>>,
}

fn certificates(field: &str, pem: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<Vec<_>, _>>();
    match read {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(format!("tls.{field} holds no certificate in PEM")),
    }
}

fn roots(ca: Option<&str>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    match ca {
        Some(pem) => {
            for certificate in certificates("ca", pem)? {
                roots
                    .add(certificate)
                    .map_err(|error| format!("tls.ca cannot be used: {error}"))?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                return Err("the system trusts no certificate authority: set tls.ca".to_owned());
            }
        }
    }
    Ok(roots)
}

impl Tls {
    /// Reads the certificates.
    ///
    /// # Errors
    /// The field that cannot be used; never its contents.
    pub(super) fn new(options: &TlsOptions) -> Result<Self, String> {
        // Named, and not the process's default: the host may have linked another provider.
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots(options.ca.as_deref())?);
        let config = match (&options.cert, &options.key) {
            (Some(cert), Some(key)) => {
                let chain = certificates("cert", cert)?;
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
                    .map_err(|_| "tls.key holds no private key in PEM".to_owned())?;
                builder
                    .with_client_auth_cert(chain, key)
                    .map_err(|_| "tls.key is not the key of tls.cert".to_owned())?
            }
            _ => builder.with_no_client_auth(),
        };
        let server_name = match &options.server_name {
            Some(name) => Some(name_of(name)?),
            None => None,
        };
        Ok(Self {
            connector: TlsConnector::from(Arc::new(config)),
            server_name,
        })
    }

    /// Returns the name that the certificate of `host` has to carry.
    pub(super) fn name(&self, host: &str) -> Result<ServerName<'static>, String> {
        match &self.server_name {
            Some(name) => Ok(name.clone()),
            None => name_of(host),
        }
    }
}

fn name_of(name: &str) -> Result<ServerName<'static>, String> {
    ServerName::try_from(name.to_owned())
        .map_err(|_| "tls.serverName is neither a host name nor an address".to_owned())
}

/// True if the handshake failed over a certificate: another attempt brings the same.
pub(super) fn is_of_certificate(error: &std::io::Error) -> bool {
    error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>())
        .is_some_and(|error| matches!(error, rustls::Error::InvalidCertificate(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_texts_are_named_and_not_shown() {
        let wrong = [
            (
                "ca",
                TlsOptions {
                    ca: Some("hidden".into()),
                    ..TlsOptions::default()
                },
            ),
            (
                "serverName",
                TlsOptions {
                    server_name: Some("a b".into()),
                    ..TlsOptions::default()
                },
            ),
        ];
        for (field, options) in wrong {
            let problem = Tls::new(&options).err().unwrap_or_default();
            // A system without authorities has another problem first.
            if problem.starts_with("the system") {
                continue;
            }
            assert!(problem.contains(&format!("tls.{field}")), "{problem}");
            assert!(!problem.contains("hidden"));
            assert_eq!(format!("{options:?}"), "TlsOptions");
        }
    }
}
