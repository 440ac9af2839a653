//! A clock that affects only the daemon: a preloaded library answers time calls, shifted by the number in a file.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::fixtures;

pub struct Clock {
    library: PathBuf,
    shift: PathBuf,
}

impl Clock {
    /// Keeps its files in this folder; none where there is no C compiler.
    pub fn new(folder: &Path) -> Option<Clock> {
        let clock = Clock {
            library: folder.join("shifted_clock.so"),
            shift: folder.join("clock_shift"),
        };
        fs::write(&clock.shift, [0; 8]).expect("write the shift");
        let compiled = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .arg(&clock.library)
            .arg(fixtures::path("shifted_clock.c"))
            .status();
        compiled.ok()?.success().then_some(clock)
    }

    /// The environment variables to start the daemon with.
    pub fn environment(&self) -> [(&'static str, &str); 2] {
        [
            ("LD_PRELOAD", text(&self.library)),
            ("ANDREA_TEST_CLOCK", text(&self.shift)),
        ]
    }

    /// Sets the daemon's clock this many seconds off the right time.
    pub fn step(&self, seconds: i64) {
        let file = File::options().write(true).open(&self.shift);
        let file = file.expect("open the shift");
        // In place: the daemon has it mapped.
        file.write_all_at(&seconds.to_ne_bytes(), 0)
            .expect("write the shift");
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}
