//! TLS, with libpq's modes: <https://www.postgresql.org/docs/current/libpq-ssl.html>. A certificate must name its host as a
//! subject alternative name; its common name does not count, other than with libpq.

use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, ClientConnection, RootCertStore};
use rustls::{DigitallySignedStruct, Error, SignatureScheme, StreamOwned};

use super::target::{SslMode, Target};
use super::wire::{Socket, Stream};

/// How far a certificate is checked.
#[derive(Debug)]
enum Trust {
    /// Any certificate: TLS protects from who reads along, not from a server that pretends.
    Any,
    /// One that these vouch for, or is one of them.
    Roots { roots: Vec<CertificateDer<'static>>, chain: Arc<WebPkiServerVerifier>, checks_name: bool },
}

#[derive(Debug)]
struct Verifier {
    trust: Trust,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Trust::Roots { roots, chain, checks_name } = &self.trust else {
            return Ok(ServerCertVerified::assertion());
        };
        // A certificate that signs itself, as PostgreSQL's documentation makes one, is its own root. The library takes no
        // root as a server's certificate.
        if roots.iter().any(|root| root.as_ref() == certificate.as_ref()) {
            if *checks_name {
                verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
            }
            return Ok(ServerCertVerified::assertion());
        }
        match chain.verify_server_cert(certificate, intermediates, name, ocsp, now) {
            // The name is checked last: the chain is sound.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if !checks_name => Ok(ServerCertVerified::assertion()),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// The certificates of a file.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(roots) if roots.is_empty() => Err(format!("{} has no certificate in PEM", path.display())),
        Ok(roots) => Ok(roots),
        Err(error) => Err(format!("the certificates of {} cannot be read: {error}", path.display())),
    }
}

/// The settings of TLS for a target.
///
/// # Errors
/// A sentence, when the file of root certificates is of no use.
pub(super) fn config(target: &Target) -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(ring::default_provider());
    let trust = match &target.root_certificates {
        // As with libpq, a root certificate makes `require` check the chain.
        Some(path) if target.ssl_mode >= SslMode::Require => {
            let roots = certificates(path)?;
            let mut store = RootCertStore::empty();
            for root in &roots {
                store.add(root.clone()).map_err(|error| format!("a certificate of {}: {error}", path.display()))?;
            }
            let chain = WebPkiServerVerifier::builder_with_provider(Arc::new(store), Arc::clone(&provider)).build();
            let chain = chain.map_err(|error| format!("{}: {error}", path.display()))?;
            Trust::Roots { roots, chain, checks_name: target.ssl_mode == SslMode::VerifyFull }
        }
        _ => Trust::Any,
    };
    let verifier = Verifier { trust, provider: Arc::clone(&provider) };
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| format!("TLS: {error}"))?;
    Ok(Arc::new(builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth()))
}

/// Makes the handshake. `host` is what the certificate has to name.
///
/// # Errors
/// A sentence that says why TLS failed.
pub(super) fn start(mut socket: Socket, config: &Arc<ClientConfig>, host: &str) -> Result<Stream, String> {
    let name = ServerName::try_from(host.to_owned()).map_err(|_| format!("TLS: not a host name: {host:?}"))?;
    let mut connection = ClientConnection::new(Arc::clone(config), name).map_err(|error| format!("TLS: {error}"))?;
    while connection.is_handshaking() {
        connection.complete_io(&mut socket).map_err(|error| format!("TLS: {error}"))?;
    }
    Ok(Stream::Tls(Box::new(StreamOwned::new(connection, socket))))
}
