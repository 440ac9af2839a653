//! The driver's TLS options, and a rule that it has no option for: only the authorities in `DB_SSL_CA` are trusted. The
//! driver adds Mozilla's to them, and anyone can get a certificate from one of those.

use std::error::Error as StdError;
use std::io;

use mysql::{ClientIdentity, SslOpts};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{
    AlgorithmIdentifier, CertificateDer, InvalidSignature, SignatureVerificationAlgorithm,
};
use rustls::{AlertDescription, CertificateError, Error, RootCertStore};
use webpki_roots::TLS_SERVER_ROOTS;

use crate::config::{TlsConfig, TlsMode};

const FILES: &str = "correct DB_SSL_MODE, DB_SSL_CA, DB_SSL_CERT or DB_SSL_KEY";

/// The driver's options; `None` for an unencrypted line.
pub(super) fn options(config: &TlsConfig) -> Option<SslOpts> {
    let verified = match config.mode {
        TlsMode::Disabled => return None,
        TlsMode::Preferred | TlsMode::Required => false,
        TlsMode::VerifyCa | TlsMode::VerifyIdentity => true,
    };
    if verified && let Some(ca) = &config.ca {
        let certificates = CertificateDer::pem_file_iter(ca).into_iter().flatten();
        trust_only(certificates.flatten());
    }
    let identity = config.identity.clone();
    Some(
        SslOpts::default()
            .with_danger_accept_invalid_certs(!verified)
            .with_danger_skip_domain_validation(config.mode == TlsMode::VerifyCa)
            .with_root_cert_path(config.ca.clone())
            .with_client_identity(identity.map(|(chain, key)| ClientIdentity::new(chain, key))),
    )
}

/// Cause and remedy where a line could not be encrypted; `None` for other errors.
pub(super) fn of_line(error: &io::Error) -> Option<(String, &'static str)> {
    let inner = error.get_ref()?;
    inner
        .downcast_ref::<Error>()
        .or_else(|| inner.source()?.downcast_ref())
        .map(words)
}

/// Cause and remedy of what was wrong before the handshake: a file, or a name that no certificate can have.
pub(super) fn of_files(error: Option<&(dyn StdError + 'static)>) -> (String, &'static str) {
    let known = error.and_then(|error| error.downcast_ref::<Error>());
    known.map_or_else(|| words(&Error::General("no such name".into())), words)
}

fn words(error: &Error) -> (String, &'static str) {
    let (cause, remedy) = match error {
        Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        ) => (
            "the server's certificate is of no authority that is trusted",
            "name the file with that authority's certificate in DB_SSL_CA",
        ),
        Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => (
            "the server's certificate is for another name than DB_HOST",
            "name the server in DB_HOST as its certificate does, or set DB_SSL_MODE=verify-ca",
        ),
        Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        ) => (
            "the server's certificate has expired",
            "let the server have a new one",
        ),
        Error::InvalidCertificate(
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
        ) => (
            "the server's certificate is not valid yet",
            "look at the clocks of both machines, or let the server have another one",
        ),
        Error::AlertReceived(
            AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::UnknownCA,
        ) => (
            "the server does not take the certificate of this program",
            "correct DB_SSL_CERT and DB_SSL_KEY",
        ),
        // A CA's certificate, one before version 3, or too weak a signature: only the library says which.
        Error::InvalidCertificate(CertificateError::Other(other)) => {
            let cause = format!("the server's certificate is none that can be verified ({other})");
            return (
                cause,
                "let the authority sign another one for the server, or set DB_SSL_MODE=required",
            );
        }
        Error::InvalidCertificate(CertificateError::BadEncoding) => (
            "a certificate cannot be understood",
            "correct DB_SSL_CA and DB_SSL_CERT, which are PEM files",
        ),
        Error::InconsistentKeys(_) => (
            "the key of this program is not that of its certificate",
            "correct DB_SSL_CERT and DB_SSL_KEY",
        ),
        Error::General(why) => {
            return (format!("no encrypted line: {why}"), FILES);
        }
        Error::AlertReceived(
            AlertDescription::HandshakeFailure
            | AlertDescription::ProtocolVersion
            | AlertDescription::InsufficientSecurity,
        )
        | Error::PeerIncompatible(_) => (
            "the server and this program have no TLS in common",
            "let the server offer TLS 1.2 or 1.3",
        ),
        other => return (format!("no encrypted line: {other}"), FILES),
    };
    (cause.to_owned(), remedy)
}

/// One of ring's signature algorithms, which rejects signatures of public authorities.
#[derive(Debug)]
struct PrivateKey {
    inner: &'static dyn SignatureVerificationAlgorithm,
    /// Keys of the authorities in `DB_SSL_CA`, which are trusted even if they are public.
    named: &'static [Vec<u8>],
}

impl SignatureVerificationAlgorithm for PrivateKey {
    fn verify_signature(
        &self,
        public_key: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), InvalidSignature> {
        let is_it = |key: &[u8]| key.ends_with(public_key);
        let is_public = TLS_SERVER_ROOTS
            .iter()
            .any(|root| is_it(&root.subject_public_key_info));
        if is_public && !self.named.iter().any(|key| is_it(key)) {
            return Err(InvalidSignature);
        }
        self.inner.verify_signature(public_key, message, signature)
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        self.inner.public_key_alg_id()
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        self.inner.signature_alg_id()
    }
}

/// Makes this the process's default, once: only the driver uses that default.
fn trust_only(certificates: impl Iterator<Item = CertificateDer<'static>>) {
    if CryptoProvider::get_default().is_some() {
        return;
    }
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(certificates);
    let keys = store.roots.iter();
    let named: Vec<Vec<u8>> = keys
        .map(|root| root.subject_public_key_info.to_vec())
        .collect();
    let named: &'static [Vec<u8>] = named.leak();
    let provider = ring::default_provider();
    let known = provider.signature_verification_algorithms;
    let all = known.all.iter().map(|inner| {
        let inner = *inner;
        &*Box::leak(Box::new(PrivateKey { inner, named })) as &dyn SignatureVerificationAlgorithm
    });
    let all: Vec<&'static dyn SignatureVerificationAlgorithm> = all.collect();
    let provider = CryptoProvider {
        signature_verification_algorithms: WebPkiSupportedAlgorithms {
            all: all.leak(),
            mapping: known.mapping,
        },
        ..provider
    };
    // Fails only where another thread was quicker.
    let _ = provider.install_default();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Yes;

    impl SignatureVerificationAlgorithm for Yes {
        fn verify_signature(&self, _: &[u8], _: &[u8], _: &[u8]) -> Result<(), InvalidSignature> {
            Ok(())
        }

        fn public_key_alg_id(&self) -> AlgorithmIdentifier {
            AlgorithmIdentifier::from_slice(&[])
        }

        fn signature_alg_id(&self) -> AlgorithmIdentifier {
            AlgorithmIdentifier::from_slice(&[])
        }
    }

    #[test]
    fn a_public_authority_is_trusted_only_where_it_is_named() {
        let key = TLS_SERVER_ROOTS[0].subject_public_key_info.to_vec();
        let verify = |named: Vec<Vec<u8>>, key: &[u8]| {
            let named = named.leak();
            PrivateKey { inner: &Yes, named }.verify_signature(key, b"", b"")
        };
        // As it stands in a certificate, without what says of which kind it is.
        let bits = &key[key.len() - 60..];
        assert!(verify(Vec::new(), bits).is_err());
        assert!(verify(vec![key.clone()], bits).is_ok());
        assert!(verify(Vec::new(), b"a key of one's own").is_ok());
    }
}
