//! TLS for the database connection: `DB_SSL_MODE`, `DB_SSL_CA`, `DB_SSL_CERT`, `DB_SSL_KEY`. Without effect on a Unix
//! socket.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::{Error, Variables};

const MODE: &str = "DB_SSL_MODE";

/// The protection that the connection needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsMode {
    /// Not encrypted.
    #[default]
    Disabled,
    /// Encrypted if the server supports it; nothing is verified.
    Preferred,
    /// Encrypted; nothing is verified.
    Required,
    /// Encrypted, with a certificate of an authority in `DB_SSL_CA`.
    VerifyCa,
    /// Encrypted, with a certificate of a trusted authority for the host in `DB_HOST`.
    VerifyIdentity,
}

/// How the connection to the database is protected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsConfig {
    /// `DB_SSL_MODE`.
    pub mode: TlsMode,
    /// `DB_SSL_CA`: file of the trusted authorities; no others are trusted.
    pub ca: Option<PathBuf>,
    /// `DB_SSL_CERT` and `DB_SSL_KEY`: our certificate and key, if the account requires them.
    pub identity: Option<(PathBuf, PathBuf)>,
}

impl TlsConfig {
    /// From the variables; paths are relative to `root`.
    ///
    /// # Errors
    /// An unknown mode, `verify-ca` without `DB_SSL_CA`, an unreadable file, half of a key pair, or a build without TLS.
    pub fn from_variables(root: &Path, variables: &Variables) -> Result<Self, Error> {
        let ca = readable(root, variables, "DB_SSL_CA")?;
        let certificate = readable(root, variables, "DB_SSL_CERT")?;
        let key = readable(root, variables, "DB_SSL_KEY")?;
        let mode = match variables.get(MODE) {
            None if ca.is_some() => TlsMode::VerifyIdentity,
            None => TlsMode::Disabled,
            Some(word) => mode(&word).ok_or_else(|| {
                let modes = "disabled, preferred, required, verify-ca or verify-identity";
                variables.wrong(MODE, format!("is {word:?}; use {modes}"))
            })?,
        };
        if mode != TlsMode::Disabled && cfg!(not(feature = "db-tls")) {
            let why = "asks for TLS, which this program was built without; build it with the feature db-tls, or set \
                       DB_SSL_MODE=disabled";
            return Err(variables.wrong(MODE, why));
        }
        if mode == TlsMode::VerifyCa && ca.is_none() {
            let why = "is verify-ca, and DB_SSL_CA is not set; name the file with the certificate of the server's authority";
            return Err(variables.wrong(MODE, why));
        }
        let identity = match (certificate, key) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            _ => {
                return Err(Error::Conflict(
                    "DB_SSL_CERT and DB_SSL_KEY belong together, and one of them is not set; set both or neither"
                        .to_owned(),
                ));
            }
        };
        Ok(TlsConfig { mode, ca, identity })
    }
}

/// Parses a mode as MySQL's clients (`VERIFY_CA`) and PHP frameworks (`verify-ca`) write it.
fn mode(word: &str) -> Option<TlsMode> {
    match word.to_ascii_lowercase().replace('_', "-").as_str() {
        "disabled" => Some(TlsMode::Disabled),
        "preferred" => Some(TlsMode::Preferred),
        "required" => Some(TlsMode::Required),
        "verify-ca" => Some(TlsMode::VerifyCa),
        "verify-identity" => Some(TlsMode::VerifyIdentity),
        _ => None,
    }
}

/// The path in a variable, after a check that the file can be read.
pub(super) fn readable(
    root: &Path,
    variables: &Variables,
    name: &str,
) -> Result<Option<PathBuf>, Error> {
    let Some(path) = variables.get(name).map(|path| root.join(path)) else {
        return Ok(None);
    };
    // Opening a pipe would block.
    let opened = match fs::metadata(&path) {
        Ok(found) if !found.is_file() => Err(io::Error::other("it is no file")),
        _ => File::open(&path),
    };
    match opened {
        Ok(_) => Ok(Some(path)),
        Err(source) => Err(Error::File {
            origin: variables.origin(name),
            path,
            source,
        }),
    }
}
