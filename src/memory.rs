//! What the process keeps of memory that it does not need any more. The only file with `unsafe` code.

use std::fs;

use rustix::mm::{Advice, madvise};

/// Blocks from this size on are the system's again as soon as they are freed, in bytes. The buffers of connections to the
/// database, 4 MiB each, are the ones that matter.
#[cfg(target_env = "gnu")]
const OWN_MAPPING_FROM: i32 = 1024 * 1024;
/// So much of other memory is kept for what comes next, in bytes; without this, what a burst of typing needs would be
/// taken from the system and given back again and again.
#[cfg(target_env = "gnu")]
const KEPT: i32 = 2 * 1024 * 1024;

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

/// Lets go of the pages of the program's code and constants, which come back one by one as they are needed. Most of what is
/// mapped after a start was needed for that alone: arguments, configuration, time zones, the first connection.
pub fn forget_start_up() {
    let read = fs::read_to_string("/proc/self/smaps").and_then(|map| {
        let program = fs::read_link("/proc/self/exe")?;
        Ok((map, program))
    });
    let Ok((map, program)) = read else {
        return;
    };
    for (start, length) in unchanged_code(&map, &program.to_string_lossy()) {
        // SAFETY: the pages are of a file, private and never written to, so what comes back is what was there. The program
        // and the C library stay mapped as long as the process lives.
        #[allow(unsafe_code, reason = "no crate offers it without")]
        // Where it is refused, the pages stay.
        let _ = unsafe { madvise(start as *mut _, length, Advice::LinuxDontNeed) };
    }
}

/// Where the program and the C library are mapped to be read or run and no page was changed, by the kernel's map of the
/// process (proc_pid_smaps(5)): address and length in bytes. What the loader has relocated is changed, and left out.
fn unchanged_code(map: &str, program: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut candidate = None;
    for line in map.lines() {
        if let Some(mapping) = mapping(line) {
            let (start, length, rights, path) = mapping;
            let is_ours = path == program || is_c_library(path);
            let is_read_only = matches!(rights, "r-xp" | "r--p");
            candidate = (is_ours && is_read_only).then_some((start, length));
        } else if let Some(changed) = line.strip_prefix("Anonymous:")
            && changed.trim() == "0 kB"
        {
            found.extend(candidate.take());
        }
    }
    found
}

fn is_c_library(path: &str) -> bool {
    path.rsplit('/')
        .next()
        .is_some_and(|name| name.starts_with("libc.so."))
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
    fn only_what_no_one_has_changed_is_let_go_of() {
        let mapping = |range: &str, rights: &str, path: &str, anonymous: u32| {
            format!(
                "{range} {rights} 00001000 fe:01 123                        {path}\nSize:    4 kB\n\
                 Anonymous:             {anonymous} kB\nVmFlags: rd ex mr mw me sd\n"
            )
        };
        let map = [
            mapping("1000-3000", "r--p", "/opt/my chat", 0),
            mapping("3000-7000", "r-xp", "/opt/my chat", 0),
            // Relocated by the loader.
            mapping("7000-8000", "r--p", "/opt/my chat", 4),
            mapping("8000-9000", "rw-p", "/opt/my chat", 0),
            mapping("9000-a000", "rw-p", "", 4),
            mapping("b000-c000", "r-xp", "/lib/libc.so.6", 0),
            mapping("d000-e000", "r-xp", "/lib/libcurl.so.4", 0),
            mapping("f000-ff00", "r-xs", "/opt/my chat", 0),
        ];
        assert_eq!(
            unchanged_code(&map.concat(), "/opt/my chat"),
            [(0x1000, 0x2000), (0x3000, 0x4000), (0xB000, 0x1000)]
        );
    }

    #[test]
    fn the_code_that_runs_goes_on_running() {
        let map = fs::read_to_string("/proc/self/smaps").expect("a map");
        let program = fs::read_link("/proc/self/exe").expect("a program");
        let code = unchanged_code(&map, &program.to_string_lossy());
        assert!(!code.is_empty(), "{map}");
        forget_start_up();
        assert_eq!(format!("{:x}", 48_879), "beef");
    }
}
