//! The variables of an install (option before environment before `.env`), with their errors and warnings.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::env;
use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::OFlags;

use super::address::{host_variable, port_variable};
use super::app_url::{APP_URL_REMEDY, app_url_doubt};
use super::{Error, env_file};
use crate::config::limits::Limits;
use crate::config::options::{self, OPTIONS, Topic};
use crate::platform::problem::Problem;

/// Bounds what is read, because `.env` may be a link to anything.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// The service's own variables begin with this; an unknown name that does is taken for a mistake.
const PREFIX: &str = "CHAT_";

/// The effective variables: an option of the command line wins over the environment, and that over `.env`.
#[derive(Default)]
pub struct Variables {
    file: HashMap<String, String>,
    options: HashMap<&'static str, (&'static str, String)>,
    environment: Option<fn(&str) -> Option<String>>,
    /// Path of `.env`.
    source: PathBuf,
    /// Whether there is no such file.
    is_missing: bool,
    /// Its lines with invalid UTF-8.
    bad_lines: Vec<usize>,
    /// Gathered errors; `None` if a wrong variable is an error at once.
    wrong: Option<RefCell<Vec<Error>>>,
}

impl Variables {
    /// Reads `ROOT/.env`, if there is one; the process's environment wins over it.
    ///
    /// # Errors
    /// The file cannot be read, a line cannot be parsed, or a variable of the environment is not UTF-8.
    pub fn load(root: &Path) -> Result<Self, Error> {
        let source = root.join(".env");
        let bytes = read(&source)?;
        if bytes.as_deref().is_some_and(is_utf_16) {
            return Err(Error::Utf16(source));
        }
        check_environment()?;
        let (text, bad_lines) = env_file::decode(bytes.as_deref().unwrap_or_default());
        let used = Cell::new(None);
        let lookup = |name: &str| {
            let value = env::var_os(name)?.into_string();
            value.map_err(|_| used.set(Some(name.to_owned()))).ok()
        };
        let file = env_file::parse(&text, &lookup);
        let file = file.map_err(|error| Error::Line(source.clone(), error))?;
        if let Some(name) = used.take() {
            return Err(Error::NotUtf8(name));
        }
        Ok(Variables {
            file,
            environment: Some(|name| env::var(name).ok()),
            is_missing: bytes.is_none(),
            source,
            bad_lines,
            ..Variables::default()
        })
    }

    /// Sets a variable from the command-line option `flag`, which wins over all else.
    pub fn set_option(&mut self, name: &'static str, flag: &'static str, value: Option<String>) {
        if let Some(value) = value {
            self.options.insert(name, (flag, value));
        }
    }

    /// These variables with the command-line options of `others`.
    #[must_use]
    pub fn with_options_of(mut self, others: Variables) -> Self {
        self.options = others.options;
        self
    }

    /// Checks the options alone, before anything is opened. The variables must be [gathering](Self::gathering).
    ///
    /// # Errors
    /// The first option that is wrong.
    pub fn check_options(&self) -> Result<(), Error> {
        let _ = self.accept(host_variable(self), None);
        let _ = self.accept(port_variable(self), None);
        let _ = Limits::from_variables(self);
        // A conflict between two values is no usage error: `.env` may still resolve it.
        let wrong = self.gathered().into_iter();
        let mut wrong = wrong.filter(Error::is_usage);
        wrong.next().map_or(Ok(()), Err)
    }

    /// From now on a wrong variable counts as unset, and its error is gathered.
    #[must_use]
    pub fn gathering(mut self) -> Self {
        self.wrong = Some(RefCell::default());
        self
    }

    /// Takes the gathered errors.
    pub fn gathered(&self) -> Vec<Error> {
        self.wrong.as_ref().map_or(Vec::new(), RefCell::take)
    }

    /// The result; while errors are gathered, `default` in place of an error.
    ///
    /// # Errors
    /// The result's own, unless errors are gathered.
    pub fn accept<T>(&self, result: Result<T, Error>, default: T) -> Result<T, Error> {
        match (result, &self.wrong) {
            (Err(error), Some(wrong)) => {
                wrong.borrow_mut().push(error);
                Ok(default)
            }
            (result, _) => result,
        }
    }

    /// The value of a variable; an empty one counts as unset.
    pub fn get(&self, name: &str) -> Option<String> {
        let from_environment = || self.environment.and_then(|lookup| lookup(name));
        let option = self.options.get(name).map(|(_, value)| value.clone());
        option
            .or_else(from_environment)
            .or_else(|| self.file.get(name).cloned())
            .filter(|value| !value.is_empty())
    }

    /// The value of a variable that must be set; `remedy` gets the path of `.env`.
    ///
    /// # Errors
    /// It is not set.
    pub fn required(
        &self,
        name: &str,
        remedy: impl FnOnce(&str) -> String,
    ) -> Result<String, Error> {
        self.get(name).ok_or_else(|| {
            let remedy = || remedy(&self.source.display().to_string());
            self.wrong_folder()
                .unwrap_or_else(|| Error::Unset(name.to_owned(), remedy()))
        })
    }

    /// The error that nothing here belongs to a helpdesk: no `.env`, or another application's.
    pub fn wrong_folder(&self) -> Option<Error> {
        let names = ["JWT_SECRET", "DB_DATABASE", "DB_USERNAME"];
        let is_any_set = names.iter().any(|name| self.get(name).is_some());
        let folder = self.source.parent().unwrap_or(Path::new("."));
        let what = match self.is_missing {
            true => "there is no .env",
            false => "neither JWT_SECRET nor a database is named by the .env",
        };
        (!is_any_set).then(|| Error::WrongFolder(what, folder.to_owned()))
    }

    /// Whether a command-line option sets the variable.
    pub fn is_option(&self, name: &str) -> bool {
        self.options.contains_key(name)
    }

    /// The error that a variable is wrong; `what` follows its name.
    pub fn wrong(&self, name: &str, what: impl Into<String>) -> Error {
        Error::Wrong {
            origin: self.origin(name),
            what: what.into(),
            is_option: self.is_option(name),
        }
    }

    /// Where the value of a variable came from, for messages.
    pub fn origin(&self, name: &str) -> String {
        let source = self.source.display();
        if let Some((flag, _)) = self.options.get(name) {
            format!("{flag} ({name})")
        } else if self.environment.and_then(|lookup| lookup(name)).is_some() {
            format!("the environment variable {name}")
        } else if self.file.contains_key(name) {
            format!("{name} in {source}")
        } else {
            format!("{name} (set neither in the environment nor in {source})")
        }
    }

    /// A whole number, with default and range from the table of options.
    ///
    /// # Errors
    /// The value is not a number within the range.
    pub fn number(&self, name: &str) -> Result<u64, Error> {
        let default = options::spec(name).and_then(|spec| spec.default.parse().ok());
        self.number_or(name, default.unwrap_or(0))
    }

    /// The same with a default that depends on other variables.
    ///
    /// # Errors
    /// The value is not a number within the range.
    pub fn number_or(&self, name: &str, default: u64) -> Result<u64, Error> {
        let Some(text) = self.get(name) else {
            return Ok(default);
        };
        let range = options::spec(name).and_then(|spec| spec.range.clone());
        let range = range.unwrap_or(0..=u64::MAX);
        let number = text.trim().parse().ok();
        let number = number
            .filter(|number| range.contains(number))
            .ok_or_else(|| {
                let (least, most) = (range.start(), range.end());
                let remedy = format!("correct it or leave it out for {default}");
                self.wrong(
                    name,
                    format!("must be a whole number from {least} to {most}; {remedy}"),
                )
            });
        self.accept(number, default)
    }

    /// A number of seconds.
    ///
    /// # Errors
    /// The value is not a number within the range.
    pub fn seconds(&self, name: &str) -> Result<Duration, Error> {
        self.number(name).map(Duration::from_secs)
    }

    /// Doubtful things, each under the name that `check` has for it: invalid UTF-8, retired and unknown names, an `APP_URL`
    /// that no page can have.
    pub fn warnings(&self) -> Vec<(&'static str, Problem)> {
        let mut warnings = Vec::new();
        let mut warn = |about, detail: String, remedy: &str| {
            let problem = Problem::of_config(detail).with_remedy(remedy.to_owned());
            warnings.push((about, problem));
        };
        if let Some(first) = self.bad_lines.first() {
            let others = match self.bad_lines.len() - 1 {
                0 => String::new(),
                others => format!(" and on {others} more"),
            };
            let place = format!("{}, line {first}{others}", self.source.display());
            let what = "bytes that are no UTF-8, each read as ? as the helpdesk does";
            warn(".env", format!("{place}: {what}"), "save the file as UTF-8");
        }
        let retired = OPTIONS.iter().filter(|spec| spec.topic == Topic::Retired);
        for spec in retired.filter(|spec| self.get(spec.name).is_some()) {
            let detail = format!("{} is no longer used", self.origin(spec.name));
            warn("configuration", detail, "remove it");
        }
        for name in self.unknown() {
            let remedy = match suggestion(&name) {
                Some(known) => format!("did you mean {known}?"),
                None => "remove it".to_owned(),
            };
            let detail = format!("{} is unknown and ignored", self.origin(&name));
            warn("configuration", detail, &remedy);
        }
        if let Some(doubt) = self.get("APP_URL").and_then(|url| app_url_doubt(&url)) {
            let detail = format!("{} {doubt}", self.origin("APP_URL"));
            warn("APP_URL", detail, APP_URL_REMEDY);
        }
        warnings
    }

    fn unknown(&self) -> Vec<String> {
        let outside = self.environment.map(|_| env::vars_os());
        let mut names: Vec<String> = outside
            .into_iter()
            .flatten()
            .filter_map(|(name, _)| name.into_string().ok())
            .chain(self.file.keys().cloned())
            .filter(|name| {
                let begins = name.get(..PREFIX.len());
                begins.is_some_and(|begins| begins.eq_ignore_ascii_case(PREFIX))
                    && options::spec(name).is_none()
            })
            .collect();
        names.sort();
        names.dedup();
        names
    }
}

/// The bytes of `.env`; `None` if there is no such file.
fn read(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    // Non-blocking, because it may be a pipe without a writer.
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(OFlags::NONBLOCK.bits() as i32)
        .open(path);
    let mut bytes = Vec::new();
    let read = opened.and_then(|file| {
        if file.metadata()?.file_type().is_fifo() {
            return Err(io::Error::other("it is a pipe"));
        }
        file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)
    });
    let (why, remedy) = match read.map_err(|error| (error.kind(), error)) {
        Ok(length) if length as u64 > MAX_FILE_BYTES => (
            io::Error::other("it is larger than 1 MiB"),
            "is it the helpdesk's file?",
        ),
        Ok(_) => return Ok(Some(bytes)),
        Err((io::ErrorKind::NotFound, _)) if !path.is_symlink() => return Ok(None),
        Err((io::ErrorKind::NotFound, _)) => (
            io::Error::other("it is a link that leads nowhere"),
            "correct the link",
        ),
        Err((io::ErrorKind::PermissionDenied, error)) => {
            (error, "make it readable for the user the service runs as")
        }
        Err((_, error)) => (error, "it must be a file of text"),
    };
    Err(Error::Unreadable(path.to_owned(), why, remedy))
}

/// Recognises UTF-16 by its byte order mark, or by a zero byte beside the first letter.
fn is_utf_16(bytes: &[u8]) -> bool {
    matches!(
        bytes,
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [0, 1..=255, ..] | [1..=255, 0, ..]
    )
}

/// Refuses a variable of ours that is not UTF-8, rather than ignore it.
fn check_environment() -> Result<(), Error> {
    for name in OPTIONS.iter().map(|spec| spec.name) {
        if env::var_os(name).is_some_and(|value| value.to_str().is_none()) {
            return Err(Error::NotUtf8(name.to_owned()));
        }
    }
    Ok(())
}

/// The known name that is most like an unknown one, if any is close enough.
fn suggestion(name: &str) -> Option<&'static str> {
    let name = name.to_ascii_uppercase();
    let ending = &name[PREFIX.len()..];
    let known = OPTIONS.iter().filter(|spec| spec.topic != Topic::Retired);
    let nearest = known
        .map(|spec| spec.name)
        .filter(|known| known.starts_with(PREFIX))
        .map(|known| match known.ends_with(ending) && ending.len() > 3 {
            true => (1, known),
            false => (strsim::levenshtein(&name, known), known),
        })
        .min();
    let is_near = |(far, known): &(usize, &str)| {
        *far <= (known.trim_start_matches("CHAT_WEBSOCKET_").len() / 2).min(4)
    };
    nearest.filter(is_near).map(|(_, known)| known)
}

#[cfg(test)]
impl Variables {
    pub(super) fn of_file(pairs: &[(&str, &str)]) -> Self {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Variables {
            file: pairs.iter().map(owned).collect(),
            source: ".env".into(),
            ..Variables::default()
        }
    }
}
