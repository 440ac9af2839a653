//! Invalidates the application's query cache after this process has written to the database (contract: database.md,
//! "The application's query cache"). The application keeps that cache in Redis or in files, and no setting says which,
//! so both are invalidated if they exist.
//!
//! A write sets a flag; the timer thread looks at it once a second, and so does the end of a process. An invalidation
//! that failed stays due.

use std::io;
use std::mem;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use log::warn;

use crate::config::cache::{CacheOverrides, CacheTargets};
use crate::config::settings::Rows;
use crate::platform::owned_file;
use crate::platform::owned_file::FILE_MODE;
use crate::platform::redis::RedisConnection;
use crate::platform::threads::lock;

/// Time limit for connecting to Redis, and again for its answer.
const REDIS_TIMEOUT: Duration = Duration::from_millis(250);
/// Longest answer of Redis, in bytes: `INCR` returns a number.
const ANSWER_BYTES: usize = 64;
/// Name of the file that the application looks at, within the cache's folder.
const VERSION_FILE: &str = "version";

/// The application's cache as writers see it; cheap to clone.
#[derive(Clone, Default)]
pub struct AppCache {
    overrides: Arc<CacheOverrides>,
    is_stale: Arc<AtomicBool>,
    state: Arc<Mutex<CacheState>>,
}

#[derive(Default)]
struct CacheState {
    /// `None` until the settings were read; then where the cache is, if it is on.
    places: Option<Option<CacheTargets>>,
    file: Side,
    redis: Side,
}

/// One of the two places where a cache may be.
#[derive(Default)]
struct Side {
    is_due: bool,
    /// Whether a failure was logged; later ones are not.
    is_reported: bool,
}

impl AppCache {
    /// No cache, whatever the settings say.
    pub fn none() -> Self {
        let cache = AppCache::new(CacheOverrides::off());
        cache.follow(&Rows::default());
        cache
    }

    /// A cache that is off until [`AppCache::follow`] says otherwise.
    pub fn new(overrides: CacheOverrides) -> Self {
        AppCache {
            overrides: Arc::new(overrides),
            ..AppCache::default()
        }
    }

    /// Learns from the settings where the cache is.
    pub fn follow(&self, rows: &Rows) {
        lock(&self.state).places = Some(CacheTargets::of(&self.overrides, rows));
    }

    /// Notes that something was written to the database and that others can see it.
    pub fn written(&self) {
        self.is_stale.store(true, Ordering::Release);
    }

    /// Whether something was written before the settings were read.
    pub fn is_unknown(&self) -> bool {
        self.is_stale.load(Ordering::Acquire) && lock(&self.state).places.is_none()
    }

    /// Invalidates the cache if something was written since the last time; waits for Redis until `deadline` at most.
    pub fn flush(&self, deadline: Instant) {
        let state = &mut *lock(&self.state);
        let Some(places) = &state.places else {
            return;
        };
        if self.is_stale.swap(false, Ordering::AcqRel) {
            (state.file.is_due, state.redis.is_due) = (true, true);
        }
        let Some(places) = places else {
            (state.file.is_due, state.redis.is_due) = (false, false);
            return;
        };
        if let Err(error) = state.file.invalidate(|| write_version(&places.home)) {
            warn!(
                "cannot write {}, so a helpdesk that caches in files may show what is no longer so: {error}; let the \
                 user the service runs as write there",
                places.home.join(VERSION_FILE).display()
            );
        }
        if let Err(error) = state.redis.invalidate(|| count_up(places, deadline)) {
            warn!(
                "cannot count up {} in Redis at {}:{}, database {}: {error}; of no consequence where the helpdesk \
                 caches in files",
                places.key, places.redis.host, places.redis.port, places.redis.database
            );
        }
    }
}

impl Side {
    /// Returns the first failure of an outage, and keeps silent about the others.
    fn invalidate(&mut self, tell: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        if self.is_due {
            let told = tell();
            self.is_due = told.is_err();
            if !mem::replace(&mut self.is_reported, told.is_err()) {
                return told;
            }
        }
        Ok(())
    }
}

fn count_up(places: &CacheTargets, deadline: Instant) -> io::Result<()> {
    // A connection each time: it is needed once a second at most, and the server may restart in between.
    let patience = |now: Instant| deadline.min(now + REDIS_TIMEOUT);
    let connected_by = patience(Instant::now());
    let mut redis = RedisConnection::open(&places.redis, ANSWER_BYTES, connected_by)?;
    let answered_by = patience(Instant::now());
    redis.call(&[b"INCR", places.key.as_bytes()], answered_by)?;
    Ok(())
}

/// Gives the cache's folder a version that it never had, if there is such a folder.
fn write_version(home: &Path) -> io::Result<()> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let version = format!(
        "{}-{}-{}",
        now.map_or(0, |now| now.as_nanos()),
        std::process::id(),
        COUNT.fetch_add(1, Ordering::Relaxed)
    );
    match owned_file::replace(&home.join(VERSION_FILE), &version, FILE_MODE) {
        Err(error) if owned_file::is_no_folder(&error) => Ok(()),
        written => written,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn each_outage_is_reported_once() {
        let mut side = Side::default();
        let mut reported = |is_away: bool| {
            side.is_due = true;
            let tell = || match is_away {
                true => Err(io::ErrorKind::ConnectionRefused.into()),
                false => Ok(()),
            };
            side.invalidate(tell).is_err()
        };
        let outages = [true, true, false, true, true].map(&mut reported);
        assert_eq!(outages, [true, false, false, true, false]);
    }

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
