//! The log: `storage/logs/chat-websocket.log`, one line an entry, `[YYYY-MM-DD HH:MM:SS] text` in the install's time
//! zone; a warning or an error says so before its text. The file is reopened without a signal after logrotate has
//! moved, removed or truncated it (contract: operations.md, "Files"). Lines also go to standard error if a person or a
//! service manager reads it. Never a token, a secret, a password or a message body.

use std::fs::{self, File};
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use log::LevelFilter;
use simplelog::{ConfigBuilder, LevelPadding, WriteLogger};

use crate::platform::clock::AppClock;
use crate::platform::owned_file::append_log;
use crate::platform::printable::printable;
use crate::platform::threads::lock;

/// Levels as the logger writes them before a text, the word that stands for them in the file, and their priority in a
/// journal (sd-daemon(3)).
const LEVELS: [(&str, &str, u8); 5] = [
    ("[ERROR] ", "error: ", 3),
    ("[WARN] ", "warning: ", 4),
    ("[INFO] ", "", 6),
    ("[DEBUG] ", "debug: ", 7),
    ("[TRACE] ", "debug: ", 7),
];

/// When the log also goes to standard error (`CHAT_WEBSOCKET_LOG_STDERR`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogStderr {
    /// Where that is a terminal, or a journal.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// How lines look on standard error.
#[derive(Clone, Copy, PartialEq, Eq)]
enum LineStyle {
    /// As in the file.
    Line,
    /// With a priority for the journal, which knows the time.
    Journal,
}

impl LogStderr {
    /// Prints to standard error, or logs at the level debug if it has no reader: the file records few lines of a start.
    pub fn say(self, clock: &AppClock, text: &str) {
        match self.style() {
            Some(style) => print(style, &clock.now_text(), "", text, 6),
            None => log::debug!("{text}"),
        }
    }

    fn style(self) -> Option<LineStyle> {
        let is_journal = is_journal();
        match self {
            LogStderr::Never => None,
            _ if is_journal => Some(LineStyle::Journal),
            LogStderr::Always => Some(LineStyle::Line),
            LogStderr::Auto => io::stderr().is_terminal().then_some(LineStyle::Line),
        }
    }
}

/// What was logged last, for [`unsaid`].
static LAST: Mutex<String> = Mutex::new(String::new());
/// Whether standard error gets what is logged.
static IS_ON_STDERR: AtomicBool = AtomicBool::new(false);

/// The part of `text` that standard error has not shown yet; `is_log`: standard error goes to the log as well.
pub(crate) fn unsaid(text: &str, is_log: bool) -> Option<&str> {
    if !is_log && !IS_ON_STDERR.load(Ordering::Relaxed) {
        return Some(text);
    }
    let last = lock(&LAST);
    match text.strip_prefix(last.as_str()) {
        Some("") => None,
        // The log may lack the remedy.
        Some(rest) if !last.is_empty() => Some(rest.strip_prefix("; ").unwrap_or(text)),
        _ => Some(text),
    }
}

/// Says on standard error why a command ends, to a journal as an error.
pub(crate) fn complain(text: &str) {
    // The reader may be gone.
    let _ = match is_journal() {
        true => writeln!(io::stderr(), "<3>{text}"),
        false => writeln!(io::stderr(), "{}: {text}", env!("CARGO_PKG_NAME")),
    };
}

/// Whether standard error is the journal that the service manager has named (systemd.exec(5), JOURNAL_STREAM).
fn is_journal() -> bool {
    let Ok(named) = std::env::var("JOURNAL_STREAM") else {
        return false;
    };
    rustix::fs::fstat(io::stderr().as_fd())
        .is_ok_and(|stat| named == format!("{}:{}", stat.st_dev, stat.st_ino))
}

fn print(style: LineStyle, time: &str, word: &str, text: &str, priority: u8) {
    match style {
        LineStyle::Line => tell(&format!("[{time}] {word}{text}\n")),
        LineStyle::Journal => tell(&format!("<{priority}>{text}\n")),
    }
}

/// Sends everything that this crate logs to `path`, from `level` on, and to standard error as `stderr` says.
///
/// # Errors
/// The file cannot be opened for appending.
pub(crate) fn install(
    path: &Path,
    level: LevelFilter,
    clock: AppClock,
    stderr: LogStderr,
) -> io::Result<()> {
    let file = LogFile::open(path, clock, stderr)?;
    let config = ConfigBuilder::new()
        .set_time_level(LevelFilter::Off)
        .set_max_level(LevelFilter::Error)
        .set_level_padding(LevelPadding::Off)
        .set_target_level(LevelFilter::Off)
        .set_location_level(LevelFilter::Off)
        .set_thread_level(LevelFilter::Off)
        // Other crates may print what they read from a socket; bodies and tokens have no place here.
        .add_filter_allow_str(env!("CARGO_CRATE_NAME"))
        .build();
    WriteLogger::init(level, config, file).map_err(io::Error::other)
}

/// An append-only file that is opened again when its path names another.
struct LogFile {
    path: PathBuf,
    file: File,
    clock: AppClock,
    line: Vec<u8>,
    stderr: Option<LineStyle>,
}

impl LogFile {
    fn open(path: &Path, clock: AppClock, stderr: LogStderr) -> io::Result<Self> {
        let file = append_log(path)?;
        // If the log is a link to standard error, it is not written there twice.
        let is_stderr = rustix::fs::fstat(io::stderr().as_fd())
            .ok()
            .zip(file.metadata().ok())
            .is_some_and(|(stat, data)| (stat.st_dev, stat.st_ino) == (data.dev(), data.ino()));
        let stderr = stderr.style().filter(|_| !is_stderr);
        IS_ON_STDERR.store(stderr.is_some() || is_stderr, Ordering::Relaxed);
        Ok(LogFile {
            path: path.to_owned(),
            file,
            clock,
            line: Vec::new(),
            stderr,
        })
    }

    fn write_line(&mut self) {
        let text = String::from_utf8_lossy(&self.line);
        let text = text.trim_end();
        let mut levels = LEVELS.into_iter();
        let known = levels
            .find_map(|(level, word, priority)| Some((text.strip_prefix(level)?, word, priority)));
        let (text, word, priority) = known.unwrap_or((text, "", 6));
        let text = printable(text);
        let time = self.clock.now_text();
        let entry = format!("[{time}] {word}{text}\n");
        self.line.clear();
        if let Some(style) = self.stderr {
            print(style, &time, word, &text, priority);
        }
        lock(&LAST).clone_from(&text);
        if let Err(error) = self.write_entry(&entry) {
            // Losing the line would be worse than a line in an unusual place.
            tell(&format!(
                "(the log file cannot be written) {error}: {entry}"
            ));
        }
    }

    fn write_entry(&mut self, entry: &str) -> io::Result<()> {
        if !self.is_current() {
            self.file = append_log(&self.path)?;
        }
        self.file.write_all(entry.as_bytes())
    }

    fn is_current(&self) -> bool {
        let (Ok(named), Ok(open)) = (fs::metadata(&self.path), self.file.metadata()) else {
            return false;
        };
        named.ino() == open.ino() && named.dev() == open.dev()
    }
}

impl Write for LogFile {
    // The logger writes an entry in pieces and ends it with a line feed.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.line.extend_from_slice(bytes);
        if self.line.last() == Some(&b'\n') {
            self.write_line();
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The reader may be gone: `eprint!` would panic, and the log line of a panic needs the lock that is held.
fn tell(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moved_a_removed_and_a_truncated_file_are_followed() {
        let folder = std::env::temp_dir().join(format!("andrea-log-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("folder");
        let path = folder.join("x.log");
        let mut log = LogFile::open(&path, AppClock::utc(), LogStderr::Never).expect("open");
        let lines = |path: &Path| fs::read_to_string(path).expect("text").lines().count();
        writeln!(log, "one").expect("write");
        fs::rename(&path, folder.join("x.log.1")).expect("move");
        writeln!(log, "two").expect("write");
        writeln!(log, "three").expect("write");
        assert_eq!(lines(&folder.join("x.log.1")), 1);
        assert_eq!(lines(&path), 2);
        fs::remove_file(&path).expect("remove");
        writeln!(log, "four").expect("write");
        assert_eq!(lines(&path), 1);
        File::create(&path).expect("truncate");
        writeln!(log, "five").expect("write");
        let text = fs::read_to_string(&path).expect("text");
        assert!(
            text.starts_with('[') && text.ends_with("] five\n"),
            "{text:?}"
        );
        fs::remove_dir_all(&folder).expect("clean up");
    }

    #[test]
    fn a_warning_and_an_error_say_so_before_their_text() {
        let folder = std::env::temp_dir().join(format!("andrea-words-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("folder");
        let path = folder.join("x.log");
        let mut log = LogFile::open(&path, AppClock::utc(), LogStderr::Never).expect("open");
        for line in ["[ERROR] a", "[WARN] b", "[INFO] c", "[DEBUG] d"] {
            writeln!(log, "{line}").expect("write");
        }
        let text = fs::read_to_string(&path).expect("text");
        let texts: Vec<&str> = text
            .lines()
            .filter_map(|line| Some(line.split_once("] ")?.1))
            .collect();
        assert_eq!(texts, ["error: a", "warning: b", "c", "debug: d"]);
        fs::remove_dir_all(&folder).expect("clean up");
    }
}
