//! What the process keeps of memory that it does not need any more. The only file with `unsafe` code.

use std::fs;
use std::sync::Once;
use std::time::{Duration, Instant};

use rustix::mm::{Advice, madvise};

/// Blocks from this size on are the system's again as soon as they are freed, in bytes. The buffers of connections to the
/// database, 4 MiB each, are the ones that matter.
#[cfg(target_env = "gnu")]
const OWN_MAPPING_FROM: i32 = 1024 * 1024;
/// So much of other memory is kept for what comes next, in bytes; without this, what a burst of typing needs would be
/// taken from the system and given back again and again.
#[cfg(target_env = "gnu")]
const KEPT: i32 = 2 * 1024 * 1024;

const MINUTE: Duration = Duration::from_secs(60);
/// Events, deliveries and connections of a minute in which the daemon has time for something else.
const LITTLE: u64 = 600;
/// As many as can leave something worth giving back.
const MUCH: u64 = 5_000;

/// Has the allocator map large blocks each by itself, for good. glibc does so at first, but raises the size with the first
/// such block that is freed: from then on it keeps up to 8 MiB for each thread that ever freed one, and a daemon that was
/// busy once looks so ever after. Other C libraries need not be told. To be called before any thread is started.
pub fn give_back_large_blocks() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt(3) takes numbers, and keeps no pointer; it must not run beside an allocation in another thread, and
    // there is no other thread yet.
    #[allow(unsafe_code, reason = "no crate offers it without")]
    unsafe {
        // Where it refuses, memory is kept as it always was.
        libc::mallopt(libc::M_MMAP_THRESHOLD, OWN_MAPPING_FROM);
        libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT);
    }
}

/// Has the allocator give back every page that it holds and nobody uses, also those between pages that are used. It keeps
/// them otherwise, and what many small blocks needed once stays with the process. Takes milliseconds where there is much
/// to give back, and whoever asks for memory meanwhile waits: to be called while there is nothing else to do.
pub fn give_back_what_is_free() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim(3) may be called by any thread at any time; it only touches what is free.
    #[allow(unsafe_code, reason = "no crate offers it without")]
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Tells when memory is to be given back: after much work, in a minute in which there is little.
#[derive(Debug)]
pub struct Breather {
    /// When the minute that is looked at is over.
    due: Instant,
    /// All work that was ever done before that minute.
    before: u64,
    /// All that was done when memory was given back last.
    given_back: u64,
    /// What was freed since that much work had left behind.
    freed: u64,
}

impl Breather {
    /// The first minute begins now.
    pub fn new(now: Instant) -> Self {
        Breather {
            due: now + MINUTE,
            before: 0,
            given_back: 0,
            freed: 0,
        }
    }

    /// So many things that work had left behind are gone, perhaps long after it.
    pub fn freed(&mut self, count: u64) {
        self.freed += count;
    }

    /// Whether to call [`give_back_what_is_free`]; `work` is how much was ever done.
    pub fn is_due(&mut self, work: u64, now: Instant) -> bool {
        if now < self.due {
            return false;
        }
        self.due = now + MINUTE;
        let of_this_minute = work - std::mem::replace(&mut self.before, work);
        let is_due = of_this_minute < LITTLE && work - self.given_back + self.freed >= MUCH;
        if is_due {
            self.given_back = work;
            self.freed = 0;
        }
        is_due
    }
}

/// Lets go of the pages of the program's code and constants, which come back one by one as they are needed. Most of what is
/// mapped after a start was needed for that alone: arguments, configuration, time zones, the first connection. Does so
/// once in the life of the process.
pub fn forget_start_up() {
    static DONE: Once = Once::new();
    DONE.call_once(|| {
        for (start, length) in unchanged_code() {
            // SAFETY: the pages are of a file, private, and none was ever written to, so what comes back is what was there.
            // The program and the C library stay mapped as long as the process lives.
            #[allow(unsafe_code, reason = "no crate offers it without")]
            // Where it is refused, the pages stay.
            let _ = unsafe { madvise(start as *mut _, length, Advice::LinuxDontNeed) };
        }
    });
}

/// Where the program and the C library are mapped and nothing was ever changed: address and length in bytes. Nothing where
/// the system does not tell.
fn unchanged_code() -> Vec<(usize, usize)> {
    let map = fs::read_to_string("/proc/self/smaps").unwrap_or_default();
    let program = fs::read_link("/proc/self/exe").unwrap_or_default();
    unchanged(&map, &program.to_string_lossy())
}

/// The same, by the kernel's map of a process (proc_pid_smaps(5)). What the loader has relocated is changed, and left out:
/// it has pages of its own, in memory or swapped out, and is accounted for (`ac`), as whatever may once be written to is.
/// All three have to be said.
fn unchanged(map: &str, program: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut candidate = None;
    let mut signs = 0;
    for line in map.lines() {
        if let Some((start, length, rights, path)) = mapping(line) {
            let is_ours = path == program || is_c_library(path);
            let is_read_only = matches!(rights, "r-xp" | "r--p");
            candidate = (is_ours && is_read_only).then_some((start, length));
            signs = 0;
        } else if let Some((name, value)) = line.split_once(':') {
            let is_unchanged = match name {
                "Anonymous" | "Swap" => value.trim() == "0 kB",
                "VmFlags" => value.split_whitespace().all(|flag| flag != "ac"),
                _ => continue,
            };
            signs += u32::from(is_unchanged);
            if name == "VmFlags" && signs == 3 {
                found.extend(candidate.take());
            }
        }
    }
    found
}

/// `libc.so.6`, or `libc-2.31.so` where it is older than 2.34.
fn is_c_library(path: &str) -> bool {
    path.rsplit('/')
        .next()
        .is_some_and(|name| name.starts_with("libc.so.") || name.starts_with("libc-2."))
}

/// The head line of a mapping: where it begins, how long it is, what may be done with it, and its file.
fn mapping(line: &str) -> Option<(usize, usize, &str, &str)> {
    let (range, rest) = line.split_once(' ')?;
    let (start, end) = range.split_once('-')?;
    let start = usize::from_str_radix(start, 16).ok()?;
    let end = usize::from_str_radix(end, 16).ok()?;
    let (rights, rest) = rest.split_once(' ')?;
    // Offset, device, inode, then the path, which may have spaces.
    let path = rest.find('/').map_or("", |at| &rest[at..]);
    Some((start, end.checked_sub(start)?, rights, path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_given_back_once_after_much_work_when_there_is_little() {
        let begun = Instant::now();
        let mut breather = Breather::new(begun);
        // What was ever done, at the end of each minute, and whether memory is then given back.
        let minutes = [
            (100, false),
            (9_000, false),
            (9_500, true),
            (9_600, false),
            (9_700, false),
            (40_000, false),
            (70_000, false),
            (70_000, true),
            (70_000, false),
        ];
        for (minute, (work, expected)) in (1..).zip(minutes) {
            let now = begun + minute * MINUTE;
            assert!(
                !breather.is_due(work, now - Duration::from_secs(1)),
                "{minute}"
            );
            assert_eq!(breather.is_due(work, now), expected, "{minute}");
        }
        // What that work had left behind goes later.
        breather.freed(3_000);
        assert!(!breather.is_due(70_000, begun + 10 * MINUTE));
        breather.freed(2_000);
        assert!(breather.is_due(70_000, begun + 11 * MINUTE));
        assert!(!breather.is_due(70_000, begun + 12 * MINUTE));
    }

    #[test]
    fn only_what_was_never_changed_is_let_go_of() {
        let mapping = |range: &str, rights: &str, path: &str, rest: &str| {
            format!(
                "{range} {rights} 00001000 fe:01 123                        {path}\nSize:    4 kB\n{rest}"
            )
        };
        let unchanged_one = "Anonymous:             0 kB\nAnonHugePages:         0 kB\nSwap:                  0 kB\n\
                             VmFlags: rd ex mr mw me sd\n";
        let map = [
            mapping("1000-3000", "r--p", "/opt/my chat", unchanged_one),
            mapping("3000-7000", "r-xp", "/opt/my chat", unchanged_one),
            // Relocated by the loader; the same swapped out; the same as far as its flags tell; an older kernel.
            mapping(
                "7000-8000",
                "r--p",
                "/opt/my chat",
                "Anonymous:   4 kB\nSwap:   0 kB\nVmFlags: rd mr mw me sd\n",
            ),
            mapping(
                "8000-9000",
                "r--p",
                "/opt/my chat",
                "Anonymous:   0 kB\nSwap:   4 kB\nVmFlags: rd mr mw me sd\n",
            ),
            mapping(
                "9000-a000",
                "r--p",
                "/opt/my chat",
                "Anonymous:   0 kB\nSwap:   0 kB\nVmFlags: rd mr mw me ac sd\n",
            ),
            mapping("a000-b000", "r-xp", "/opt/my chat", "Anonymous:   0 kB\n"),
            mapping("b000-c000", "rw-p", "/opt/my chat", unchanged_one),
            mapping("c000-d000", "rw-p", "", unchanged_one),
            mapping("d000-e000", "r-xp", "/lib/libc.so.6", unchanged_one),
            mapping("e000-f000", "r-xp", "/lib/libcurl.so.4", unchanged_one),
            mapping("f000-ff00", "r-xs", "/opt/my chat", unchanged_one),
        ];
        assert_eq!(
            unchanged(&map.concat(), "/opt/my chat"),
            [(0x1000, 0x2000), (0x3000, 0x4000), (0xD000, 0x1000)]
        );
    }

    #[test]
    fn the_pages_go_and_the_code_runs_on() {
        let resident = |code: &[(usize, usize)]| {
            let map = fs::read_to_string("/proc/self/smaps").expect("a map");
            let mut sum = 0;
            let mut counts = false;
            for line in map.lines() {
                if let Some((start, length, ..)) = mapping(line) {
                    counts = code.contains(&(start, length));
                } else if let Some(size) = line.strip_prefix("Rss:").filter(|_| counts) {
                    let digits = size.trim().trim_end_matches(" kB");
                    sum += digits.parse::<u64>().expect("a number");
                }
            }
            sum
        };
        let code = unchanged_code();
        let before = resident(&code);
        forget_start_up();
        let after = resident(&code);
        assert!(after < before, "{before} kB, then {after} kB");
    }
}
