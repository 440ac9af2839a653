//! The log: `storage/logs/chat-websocket.log`, one line an entry, `[YYYY-MM-DD HH:MM:SS] text` in the
//! install's time zone. The file is opened again where logrotate has moved, removed or truncated it, without a
//! signal (contract: operations.md, "Files"). Never a token, a secret, a password or a message body.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use log::LevelFilter;
use simplelog::{ConfigBuilder, WriteLogger};

use crate::clock::AppClock;
use crate::places::FILE_MODE;

/// Where a line goes while the log file cannot be written.
const FALLBACK_NOTE: &str = "(the log file cannot be written)";

/// Sends everything that this crate logs to `path`, from `level` on.
///
/// # Errors
/// The file cannot be opened for appending.
pub fn install(path: &Path, level: LevelFilter, clock: AppClock) -> io::Result<()> {
    let file = LogFile::open(path, clock)?;
    let config = ConfigBuilder::new()
        .set_time_level(LevelFilter::Off)
        .set_max_level(LevelFilter::Off)
        .set_target_level(LevelFilter::Off)
        .set_location_level(LevelFilter::Off)
        .set_thread_level(LevelFilter::Off)
        // Other crates may print what they read from a socket; bodies and tokens have no place here.
        .add_filter_allow_str(env!("CARGO_CRATE_NAME"))
        .build();
    WriteLogger::init(level, config, file).map_err(io::Error::other)
}

/// An append-only file that follows its name.
struct LogFile {
    path: PathBuf,
    file: File,
    clock: AppClock,
    line: Vec<u8>,
}

impl LogFile {
    fn open(path: &Path, clock: AppClock) -> io::Result<Self> {
        Ok(LogFile {
            path: path.to_owned(),
            file: append(path)?,
            clock,
            line: Vec::new(),
        })
    }

    fn write_line(&mut self) {
        let text = String::from_utf8_lossy(&self.line);
        let entry = format!(
            "[{}] {}\n",
            self.clock.now_text(),
            one_line(text.trim_end())
        );
        self.line.clear();
        if !self.is_current() {
            match append(&self.path) {
                Ok(file) => self.file = file,
                Err(error) => {
                    // Losing the line would be worse than a line in an unusual place.
                    eprint!("{FALLBACK_NOTE} {error}: {entry}");
                    return;
                }
            }
        }
        if let Err(error) = self.file.write_all(entry.as_bytes()) {
            eprint!("{FALLBACK_NOTE} {error}: {entry}");
        }
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

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(FILE_MODE)
        .open(path)
}

/// Control characters would let a peer forge lines.
fn one_line(text: &str) -> String {
    text.chars()
        .flat_map(|c| -> Box<dyn Iterator<Item = char>> {
            if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') {
                Box::new(c.escape_default())
            } else {
                Box::new(std::iter::once(c))
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_stay_on_their_line() {
        assert_eq!(
            one_line("a\n[x] b\r\u{1b}[0m é"),
            "a\\n[x] b\\r\\u{1b}[0m é"
        );
    }

    #[test]
    fn a_moved_a_removed_and_a_truncated_file_are_followed() {
        let folder = std::env::temp_dir().join(format!("andrea-log-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("folder");
        let path = folder.join("x.log");
        let mut log = LogFile::open(&path, AppClock::utc()).expect("open");
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
}
