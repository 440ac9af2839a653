//! TLS to the web server, as a browser does it. Trusts Mozilla's roots, this machine's, and those of a given file.

use std::io::{Read, Write};
use std::net::TcpStream;
#[cfg(feature = "push")]
use std::path::Path;

#[cfg(feature = "push")]
use super::login::is_silence;
#[cfg(feature = "push")]
use super::symptoms::Symptom;
use super::web_server::WebServerCheck;
#[cfg(feature = "push")]
use super::web_server::bare;
use super::{Finding, symptoms};

/// The connection to the web server, with or without TLS.
pub(super) trait Stream: Read + Write {}

impl<T: Read + Write> Stream for T {}

const ABOUT: &str = "TLS";

/// Where Linux distributions keep their trusted roots: Debian and Red Hat.
#[cfg(feature = "push")]
const MACHINE_ROOTS: [&str; 2] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
];

/// The stream to the web server, after the TLS handshake where the URL asks for TLS.
pub(super) fn agree(
    way: &WebServerCheck,
    socket: &TcpStream,
    findings: &mut Vec<Finding>,
) -> Result<Box<dyn Stream>, Finding> {
    let tried = format!("TLS with {}", way.url.authority());
    let stream = socket
        .try_clone()
        .map_err(|error| symptoms::TLS_FAILED.failed(ABOUT, &tried, error))?;
    if !way.url.is_secure {
        return Ok(Box::new(stream));
    }
    let (stream, version) = shake_hands(way, stream, &tried)?;
    let detail = format!("{tried}: {version}, and the certificate fits");
    findings.push(Finding::ok(ABOUT, detail));
    Ok(stream)
}

#[cfg(feature = "push")]
fn shake_hands(
    way: &WebServerCheck,
    mut stream: TcpStream,
    tried: &str,
) -> Result<(Box<dyn Stream>, &'static str), Finding> {
    use rustls::pki_types::ServerName;
    use rustls::{ClientConfig, ClientConnection, StreamOwned};
    use std::sync::Arc;

    let because = |symptom: &Symptom, came: &str| symptom.failed(ABOUT, tried, came);
    let failed = |error: String| because(&symptoms::TLS_FAILED, &error);
    let roots = roots(way.ca.as_deref())?;
    let name = bare(&way.url.host).to_owned();
    let name = ServerName::try_from(name).map_err(|error| failed(error.to_string()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    // A browser offers only HTTP/1.1 for a WebSocket.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let mut connection =
        ClientConnection::new(Arc::new(config), name).map_err(|error| failed(error.to_string()))?;
    while connection.is_handshaking() {
        connection.complete_io(&mut stream).map_err(|error| {
            let cause = error.get_ref().and_then(|cause| cause.downcast_ref());
            // Everything from a brace on is debug output.
            let came = error.to_string();
            let came = came.split(" {").next().unwrap_or_default();
            match is_silence(&error) {
                true => because(&symptoms::SILENT, "no answer"),
                false => because(cause.map_or(&symptoms::TLS_FAILED, symptom), came),
            }
        })?;
    }
    let version = match connection.protocol_version() {
        Some(rustls::ProtocolVersion::TLSv1_2) => "TLS 1.2",
        _ => "TLS 1.3",
    };
    Ok((Box::new(StreamOwned::new(connection, stream)), version))
}

#[cfg(feature = "push")]
fn roots(ca: Option<&Path>) -> Result<rustls::RootCertStore, Finding> {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;

    let mut roots = rustls::RootCertStore {
        roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
    };
    let named = std::env::var("SSL_CERT_FILE").ok();
    let mut files = named.iter().map(String::as_str).chain(MACHINE_ROOTS);
    if let Some(certificates) = files.find_map(|file| CertificateDer::pem_file_iter(file).ok()) {
        // A system's file may hold certificates that cannot be parsed; they are skipped.
        roots.add_parsable_certificates(certificates.flatten());
    }
    if let Some(file) = ca {
        let certificates = CertificateDer::pem_file_iter(file)
            .map(|all| all.flatten().collect::<Vec<_>>())
            .unwrap_or_default();
        if roots.add_parsable_certificates(certificates).0 == 0 {
            return Err(Finding::failed(
                ABOUT,
                format!("{} has no certificate that can be read", file.display()),
                "name a file of certificates in PEM with --ca",
            ));
        }
    }
    Ok(roots)
}

#[cfg(feature = "push")]
fn symptom(error: &rustls::Error) -> &'static Symptom {
    use rustls::AlertDescription::{NoApplicationProtocol, UnrecognisedName};
    use rustls::CertificateError::{
        Expired, ExpiredContext, NotValidForName, NotValidForNameContext, NotValidYet,
        NotValidYetContext, UnknownIssuer,
    };
    use rustls::Error::{AlertReceived, InvalidCertificate, InvalidMessage};
    match error {
        InvalidCertificate(Expired | ExpiredContext { .. }) => &symptoms::CERTIFICATE_EXPIRED,
        InvalidCertificate(NotValidYet | NotValidYetContext { .. }) => &symptoms::CERTIFICATE_EARLY,
        InvalidCertificate(NotValidForName | NotValidForNameContext { .. }) => {
            &symptoms::CERTIFICATE_NAME
        }
        AlertReceived(UnrecognisedName) => &symptoms::CERTIFICATE_NAME,
        InvalidCertificate(UnknownIssuer) => &symptoms::CERTIFICATE_UNKNOWN,
        InvalidCertificate(_) => &symptoms::CERTIFICATE_FORM,
        AlertReceived(NoApplicationProtocol) => &symptoms::HTTP2_ONLY,
        InvalidMessage(_) => &symptoms::NO_TLS,
        _ => &symptoms::TLS_FAILED,
    }
}

#[cfg(not(feature = "push"))]
fn shake_hands(
    _: &WebServerCheck,
    _: TcpStream,
    tried: &str,
) -> Result<(Box<dyn Stream>, &'static str), Finding> {
    Err(Finding::failed(
        ABOUT,
        format!("{tried}: this build has no TLS"),
        "check the way by http or ws, or with a build that has the feature push",
    ))
}
