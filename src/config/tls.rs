//! TLS for the database connection: `DB_SSL_MODE`, `DB_SSL_CA`, `DB_SSL_CERT`, `DB_SSL_KEY`. A Unix socket needs
//! none of it.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::Variables;
use crate::platform::problem::Problem;

const MODE: &str = "DB_SSL_MODE";

/// What is asked of the line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsMode {
    /// It is open.
    #[default]
    Disabled,
    /// Encrypted where the server can; nothing is verified.
    Preferred,
    /// Encrypted; nothing is verified.
    Required,
    /// Encrypted, and the certificate is of the authority in `DB_SSL_CA`.
    VerifyCa,
    /// That, and it is for the host that is connected to.
    VerifyIdentity,
}

/// How the line to the database is protected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsConfig {
    /// `DB_SSL_MODE`.
    pub mode: TlsMode,
    /// `DB_SSL_CA`: certificates of authorities that are trusted, and no others.
    pub ca: Option<PathBuf>,
    /// `DB_SSL_CERT` and `DB_SSL_KEY`: what the server may ask of us.
    pub identity: Option<(PathBuf, PathBuf)>,
}

impl TlsConfig {
    /// From the variables; paths are relative to `root`.
    ///
    /// # Errors
    /// A mode that there is not, a file that cannot be read, one of two that belong together, or a build without TLS.
    pub fn from_variables(root: &Path, variables: &Variables) -> Result<Self, Problem> {
        let ca = readable(root, variables, "DB_SSL_CA")?;
        let certificate = readable(root, variables, "DB_SSL_CERT")?;
        let key = readable(root, variables, "DB_SSL_KEY")?;
        let mode = match variables.get(MODE) {
            None if ca.is_some() => TlsMode::VerifyIdentity,
            None => TlsMode::Disabled,
            Some(word) => mode(&word).ok_or_else(|| {
                Problem::of_config(format!(
                    "{} is {word:?}; use disabled, preferred, required, verify-ca or verify-identity",
                    variables.origin(MODE)
                ))
            })?,
        };
        let origin = || variables.origin(MODE);
        if mode != TlsMode::Disabled && cfg!(not(feature = "db-tls")) {
            return Err(Problem::of_config(format!(
                "{} asks for TLS, which this program was built without; build it with the feature db-tls, or set {MODE}=disabled",
                origin()
            )));
        }
        if mode == TlsMode::VerifyCa && ca.is_none() {
            return Err(Problem::of_config(format!(
                "{} is verify-ca, and DB_SSL_CA is not set; name the file with the certificate of the server's authority",
                origin()
            )));
        }
        let identity = match (certificate, key) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            _ => {
                return Err(Problem::of_config(
                    "DB_SSL_CERT and DB_SSL_KEY belong together, and one of them is not set; set both or neither"
                        .to_owned(),
                ));
            }
        };
        Ok(TlsConfig { mode, ca, identity })
    }
}

/// As the clients of MySQL write it, and the settings of PHP frameworks.
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

/// The file that a variable names, which can be read.
pub(super) fn readable(
    root: &Path,
    variables: &Variables,
    name: &str,
) -> Result<Option<PathBuf>, Problem> {
    let Some(path) = variables.get(name).map(|path| root.join(path)) else {
        return Ok(None);
    };
    // A pipe would be waited for.
    let opened = match fs::metadata(&path) {
        Ok(found) if !found.is_file() => Err(io::Error::other("it is no file")),
        _ => File::open(&path),
    };
    match opened {
        Ok(_) => Ok(Some(path)),
        Err(error) => {
            let (origin, path) = (variables.origin(name), path.display());
            Err(
                Problem::of_config(format!("{origin} names {path}, which cannot be read"))
                    .because(error)
                    .with_remedy("correct the path, or let the user the service runs as read it"),
            )
        }
    }
}
