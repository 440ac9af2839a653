//! Why a start or a subcommand does not do what it was asked. `serve`, the demo and the subcommands share this error, and
//! that of a configuration becomes one: the user reads it, and the program itself only looks at the exit code.

use std::borrow::Cow;
use std::error::Error;
use std::path::Path;
use std::{fmt, io};

use crate::platform::exit_code;

/// What cannot be done, why, and what to do about it: `WHAT: CAUSE; REMEDY`.
#[derive(Debug)]
pub struct Problem {
    what: String,
    cause: Option<Box<dyn Error + Send + Sync>>,
    remedy: Option<Cow<'static, str>>,
    /// See [`exit_code`].
    pub code: u8,
}

impl Problem {
    /// A problem with this text, which may end with a remedy after `; `.
    pub fn new(code: u8, what: impl Into<String>) -> Self {
        Problem {
            what: what.into(),
            cause: None,
            remedy: None,
            code,
        }
    }

    /// A problem whose text is that of its cause.
    pub fn of(code: u8, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Problem::new(code, "").because(cause)
    }

    /// A configuration that cannot be used.
    pub fn of_config(what: impl Into<String>) -> Self {
        Problem::new(exit_code::CONFIG, what)
    }

    /// Standard output cannot be written.
    pub fn of_output(error: io::Error) -> Self {
        Problem::new(exit_code::FAILED, "cannot write to standard output").because(error)
    }

    /// What was to be done with a file or folder cannot be done.
    pub fn of_path(operation: &str, path: &Path, error: impl Into<io::Error>) -> Self {
        let what = format!("cannot {operation} {}", path.display());
        Problem::new(exit_code::CANNOT_CREATE, what).because(error.into())
    }

    /// The same with its cause.
    #[must_use]
    pub fn because(mut self, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// The same with what to do about it.
    #[must_use]
    pub fn with_remedy(mut self, remedy: impl Into<Cow<'static, str>>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// The same with this exit code.
    #[must_use]
    pub fn with_code(self, code: u8) -> Self {
        Problem { code, ..self }
    }

    /// What to do about it, where the words do not say so.
    pub fn remedy(&self) -> Option<&str> {
        self.remedy.as_deref()
    }

    /// All but what to do about it.
    pub fn detail(&self) -> String {
        match &self.cause {
            None => self.what.clone(),
            Some(cause) if self.what.is_empty() => cause.to_string(),
            Some(cause) => format!("{}: {cause}", self.what),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail())?;
        match &self.remedy {
            Some(remedy) => write!(f, "; {remedy}"),
            None => Ok(()),
        }
    }
}

impl Error for Problem {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause.as_deref().map(|cause| cause as _)
    }
}
