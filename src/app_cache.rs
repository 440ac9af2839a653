//! The application's query cache: tells it to forget what it has cached after this process has written to the database
//! (contract: database.md, "The application's query cache"). It may keep that cache in Redis or in files, and nobody
//! says which, so both are told where they are there.
//!
//! Whoever writes calls [`AppCache::written`], which takes a lock for a moment and no more; a thread, which is started
//! by the first write while the cache is on, does the rest: at once, then at most once a second, and always once more
//! after the last write.

mod places;

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use log::{debug, warn};
use redis::{ConnectionAddr, IntoConnectionInfo, RedisConnectionInfo, RedisResult};

pub use self::places::Overrides;
use self::places::Places;
use crate::fault;
use crate::settings::Rows;
use crate::vital;

/// Least time between two times that the cache is told.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long connecting to Redis, and its answer, may take each.
const REDIS_PATIENCE: Duration = Duration::from_millis(250);
/// Stack of the thread, in bytes; looking up a host's name takes most of it.
const STACK: usize = 256 * 1024;
/// Name of the file that the application looks at, within the cache's folder.
const VERSION_FILE: &str = "version";

/// The application's cache as writers see it.
#[derive(Clone)]
pub struct AppCache {
    shared: Arc<Shared>,
}

struct Shared {
    overrides: Overrides,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Nobody has read the settings yet.
    is_unknown: bool,
    places: Option<Places>,
    has_thread: bool,
    /// Something was written that the cache was not told of.
    is_due: bool,
    is_telling: bool,
    /// Tell at once, then end.
    is_ending: bool,
}

impl AppCache {
    /// No cache, whatever the settings say.
    pub fn none() -> Self {
        let cache = AppCache::new(Overrides::off());
        cache.follow(&Rows::default());
        cache
    }

    /// A cache that is off until [`AppCache::follow`] says otherwise.
    pub fn new(overrides: Overrides) -> Self {
        AppCache {
            shared: Arc::new(Shared {
                overrides,
                state: Mutex::new(State {
                    is_unknown: true,
                    ..State::default()
                }),
                changed: Condvar::new(),
            }),
        }
    }

    /// Takes over settings that were read.
    pub fn follow(&self, rows: &Rows) {
        let places = Places::of(&self.shared.overrides, rows);
        let mut state = self.shared.lock();
        state.places = places;
        if std::mem::take(&mut state.is_unknown) && state.is_due {
            self.tell(state);
        }
    }

    /// Whether something was written and nobody has read the settings yet.
    pub fn is_unknown(&self) -> bool {
        let state = self.shared.lock();
        state.is_unknown && state.is_due
    }

    /// Something was written to the database, and others can see it.
    pub fn written(&self) {
        let mut state = self.shared.lock();
        state.is_due = true;
        if !state.is_unknown {
            self.tell(state);
        }
    }

    fn tell(&self, mut state: MutexGuard<'_, State>) {
        if state.places.is_none() {
            state.is_due = false;
            return;
        }
        if !state.has_thread {
            state.is_ending = false;
            let shared = Arc::clone(&self.shared);
            let started = thread::Builder::new()
                .name("app-cache".to_owned())
                .stack_size(STACK)
                .spawn(move || {
                    let _vital = vital::thread();
                    shared.run();
                });
            match started {
                Ok(_) => state.has_thread = true,
                Err(error) => debug!("cannot start the thread app-cache: {error}"),
            }
        }
        drop(state);
        self.shared.changed.notify_all();
    }

    /// Waits until the cache was told of the last write, but no longer than until then.
    pub fn settle(&self, until: Instant) {
        let mut state = self.shared.lock();
        state.is_ending = true;
        self.shared.changed.notify_all();
        while state.has_thread && (state.is_due || state.is_telling) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            state = self
                .shared
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        /// After a panic the last rows are still to be written; they are told by another thread.
        struct AtEnd<'a>(&'a Shared);
        impl Drop for AtEnd<'_> {
            fn drop(&mut self) {
                if thread::panicking() {
                    let mut state = self.0.lock();
                    (state.has_thread, state.is_telling, state.is_due) = (false, false, true);
                    drop(state);
                    self.0.changed.notify_all();
                }
            }
        }
        let _at_end = AtEnd(self);
        let mut teller = Teller::default();
        let mut told_at: Option<Instant> = None;
        while let Some(places) = self.next(told_at) {
            fault::point("app-cache");
            told_at = Some(Instant::now());
            teller.tell(&places);
            self.lock().is_telling = false;
            self.changed.notify_all();
        }
    }

    /// Waits until the cache is to be told; `None` at the end.
    fn next(&self, told_at: Option<Instant>) -> Option<Places> {
        let due_at = told_at.map(|told_at| told_at + INTERVAL);
        let mut state = self.lock();
        loop {
            let pause = due_at.map(|due_at| due_at.saturating_duration_since(Instant::now()));
            let pause = pause.filter(|pause| !pause.is_zero() && !state.is_ending);
            if state.is_due && pause.is_none() {
                // What is written from here on is another matter.
                state.is_due = false;
                if let Some(places) = state.places.clone() {
                    state.is_telling = true;
                    return Some(places);
                }
                continue;
            }
            if state.is_ending && !state.is_due {
                state.has_thread = false;
                self.changed.notify_all();
                return None;
            }
            state = match pause.filter(|_| state.is_due) {
                Some(pause) => {
                    let waited = self.changed.wait_timeout(state, pause);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => {
                    let waited = self.changed.wait(state);
                    waited.unwrap_or_else(PoisonError::into_inner)
                }
            };
        }
    }
}

/// Tells the cache, and says once of each place that it cannot.
#[derive(Default)]
struct Teller {
    said_of_redis: bool,
    said_of_file: bool,
}

impl Teller {
    fn tell(&mut self, places: &Places) {
        if let Err(error) = write_version(&places.home) {
            let said = std::mem::replace(&mut self.said_of_file, true);
            if !said {
                warn!(
                    "cannot write {}, so a helpdesk that caches in files may show what is no longer so: {error}; let the \
                     user the service runs as write there",
                    places.home.join(VERSION_FILE).display()
                );
            }
        }
        if let Err(error) = count_up(places) {
            let said = std::mem::replace(&mut self.said_of_redis, true);
            if !said {
                warn!(
                    "cannot count up {} in Redis at {}:{}, database {}: {error}; of no consequence where the helpdesk \
                     caches in files",
                    places.key, places.host, places.port, places.database
                );
            }
        }
    }
}

fn count_up(places: &Places) -> RedisResult<()> {
    // One connection a time: there is at most one a second, and the server may go and come between two.
    let settings = RedisConnectionInfo::default()
        .set_db(places.database)
        .set_skip_set_lib_name();
    let address = ConnectionAddr::Tcp(places.host.clone(), places.port);
    let info = address.into_connection_info()?.set_redis_settings(settings);
    let client = redis::Client::open(info)?;
    let mut connection = client.get_connection_with_timeout(REDIS_PATIENCE)?;
    connection.set_read_timeout(Some(REDIS_PATIENCE))?;
    connection.set_write_timeout(Some(REDIS_PATIENCE))?;
    redis::cmd("INCR").arg(&places.key).exec(&mut connection)
}

/// Gives the cache's folder a version that it never had, if there is such a folder.
fn write_version(home: &Path) -> io::Result<()> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let Ok(folder) = fs::metadata(home).and_then(|found| match found.is_dir() {
        true => Ok(found),
        false => Err(io::ErrorKind::NotADirectory.into()),
    }) else {
        return Ok(());
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let version = format!(
        "{}-{}-{}",
        now.map_or(0, |now| now.as_nanos()),
        std::process::id(),
        COUNT.fetch_add(1, Ordering::Relaxed)
    );
    // A reader sees the old one or the new one, never a half.
    let fresh = home.join(format!(".{VERSION_FILE}-{}", std::process::id()));
    let written = write_new(&fresh, &version, &folder)
        .and_then(|()| fs::rename(&fresh, home.join(VERSION_FILE)));
    if written.is_err() {
        let _ = fs::remove_file(&fresh);
    }
    written
}

fn write_new(path: &Path, text: &str, folder: &fs::Metadata) -> io::Result<()> {
    let mut file = fs::File::create(path)?;
    file.write_all(text.as_bytes())?;
    if rustix::process::geteuid().is_root() {
        // The application has to be able to write it as well.
        fchown(&file, Some(folder.uid()), Some(folder.gid()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_never_the_same_and_a_missing_folder_is_left_missing() {
        let home = std::env::temp_dir().join(format!("andrea-cache-{}", std::process::id()));
        write_version(&home).expect("nothing to do");
        assert!(!home.exists());
        fs::create_dir_all(&home).expect("folder");
        let mut versions = std::collections::HashSet::new();
        for _ in 0..100 {
            write_version(&home).expect("write");
            versions.insert(fs::read_to_string(home.join(VERSION_FILE)).expect("text"));
        }
        assert_eq!(versions.len(), 100);
        assert_eq!(fs::read_dir(&home).expect("list").count(), 1);
        fs::remove_dir_all(&home).expect("clean up");
        fs::write(&home, "").expect("a file in its place");
        write_version(&home).expect("nothing to do");
        fs::remove_file(&home).expect("clean up");
    }
}
