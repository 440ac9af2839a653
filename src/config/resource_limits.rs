//! Whether the configured limits fit this machine: adds up descriptors, threads and memory, and compares them with what
//! the system allows this process. The sums are pure; only [`Room::here`] reads from the system.

use std::fmt;
use std::fs;
use std::path::Path;

use rustix::process::{Resource, getrlimit};

use crate::config::limits::Limits;
use crate::platform::problem::Problem;

/// Descriptors other than clients' sockets: database, log, epoll, standard streams, and some to spare.
pub const OTHER_FILES: u64 = 64;
/// Threads other than those of connections: every row of the table in ARCHITECTURE.md, including those of a stop.
const OTHER_THREADS: u64 = 24;
/// Threads left for other programs of the same user or unit, such as the helpdesk's PHP.
const SPARE_THREADS: u64 = 8;
/// Memory of the service without connections, in bytes: measured 8 MB, plus what the allocator keeps after a busy hour.
const BASE_BYTES: u64 = 16 << 20;
/// Memory of a busy connection to the database, in bytes: its buffer.
const DB_CONNECTION_BYTES: u64 = 4 << 20;
/// Address space that the service takes without connections, in bytes: the program, and the stacks of its other threads;
/// measured 41 MB of a build without optimisation.
const BASE_SPACE: u64 = 40 << 20;
/// Address space of a connection to the database, in bytes: a buffer for each direction.
const DB_CONNECTION_SPACE: u64 = 8 << 20;
/// Memory of a connection that was busy and is silent now, in bytes: the touched part of its thread's stack, and its
/// buffers; measured 20 to 24 KB. The kernel takes as much again for thread and socket.
const CONNECTION_BYTES: u64 = 24 << 10;
/// Largest frame that is sent, in bytes, even beyond the queue's limit: a message with text and HTML of 64 KiB each,
/// where JSON escapes every byte as `\u00XX`, in 6 bytes.
const LARGEST_FRAME: u64 = 2 * 6 * (64 << 10);
/// Incoming messages of one connection that the service may hold: one in work, one whose fragments are collected, and
/// the frame that is being read.
const INCOMING: u64 = 3;

/// What the limits add up to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Demand {
    /// Sockets of clients.
    pub connections: u64,
    /// Descriptors.
    pub files: u64,
    /// Threads.
    pub threads: u64,
    /// Bytes while all connections are open and silent.
    pub resting_bytes: u64,
    /// Bytes in the worst case: the service is busy, and every connection has a full queue and is in the middle of sending
    /// the largest message.
    pub full_bytes: u64,
}

impl Demand {
    /// The demand of these limits, with `message_bytes` as the largest message.
    pub fn of(limits: &Limits, message_bytes: usize) -> Self {
        let connections = limits.max_connections as u64;
        let outgoing = (limits.queue_bytes as u64).max(LARGEST_FRAME);
        let incoming = INCOMING * message_bytes as u64;
        let each = outgoing.saturating_add(incoming);
        let resting_bytes = BASE_BYTES + connections * CONNECTION_BYTES;
        Demand {
            connections,
            files: connections + OTHER_FILES,
            threads: connections + OTHER_THREADS,
            resting_bytes,
            full_bytes: (resting_bytes + limits.db_connections as u64 * DB_CONNECTION_BYTES)
                .saturating_add(connections.saturating_mul(each)),
        }
    }
}

impl fmt::Display for Demand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} connections: {} descriptors, {} threads, {} MB, at most {} MB where none of them reads",
            self.connections,
            self.files,
            self.threads,
            megabytes(self.resting_bytes),
            megabytes(self.full_bytes)
        )
    }
}

/// A bound of the system: the number, and what sets it, in words.
type Bound = (u64, &'static str);

/// The tightest bounds of the system, where any is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// Descriptors of this process.
    pub files: Option<Bound>,
    /// Threads.
    pub threads: Option<Bound>,
    /// Bytes.
    pub memory: Option<Bound>,
}

impl Room {
    /// The bounds of this process.
    pub fn here() -> Self {
        let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let number = |path| text(path).trim().parse::<u64>().ok();
        let groups = text("/proc/self/cgroup");
        let root = Path::new("/sys/fs/cgroup");
        let group = |name, newer, older| group_limit(&groups, root, name, newer, older);
        let limit = |resource| getrlimit(resource).current;
        // RLIMIT_NPROC does not apply to root.
        let is_root = rustix::process::geteuid().is_root();
        // Each thread takes two mappings: its stack and the guard page.
        let mappings = number("/proc/sys/vm/max_map_count").map(|most| most / 2);
        Room {
            // The hard limit, to which the service raises the soft one.
            files: tightest([(
                getrlimit(Resource::Nofile).maximum,
                "the limit of open files (LimitNOFILE, ulimit -n)",
            )]),
            threads: tightest([
                (
                    group("pids", "pids.max", "pids.max"),
                    "the unit's task limit (TasksMax)",
                ),
                (
                    limit(Resource::Nproc).filter(|_| !is_root),
                    "the user's limit of processes (ulimit -u, LimitNPROC)",
                ),
                (
                    number("/proc/sys/kernel/threads-max"),
                    "the kernel (kernel.threads-max)",
                ),
                (mappings, "the kernel (vm.max_map_count)"),
            ]),
            memory: tightest([
                (
                    group("memory", "memory.max", "memory.limit_in_bytes"),
                    "the unit's memory limit (MemoryMax)",
                ),
                (
                    limit(Resource::As),
                    "the limit of address space (ulimit -v, LimitAS)",
                ),
                (
                    available_bytes(&text("/proc/meminfo")),
                    "what this machine has left",
                ),
            ]),
        }
    }
}

fn tightest<const N: usize>(bounds: [(Option<u64>, &'static str); N]) -> Option<Bound> {
    let known = bounds
        .into_iter()
        .filter_map(|(most, by)| Some((most?, by)));
    known.min_by_key(|(most, _)| *most)
}

/// Everything in `demand` that exceeds `room`, with its remedy.
pub fn shortages(demand: &Demand, room: &Room) -> Vec<Problem> {
    let connections = demand.connections;
    let problem = |what: String, remedy: &'static str| Problem::of_config(what).with_remedy(remedy);
    let mut problems = Vec::new();
    if let Some((most, _)) = room.files.filter(|(most, _)| *most < demand.files) {
        let enough = connections_by_files(most);
        problems.push(problem(
            format!(
                "the limit of {most} open files allows {enough} connections, not {connections}"
            ),
            "raise it (LimitNOFILE, ulimit -n) or lower CHAT_WEBSOCKET_MAX_CONNECTIONS",
        ));
    }
    let threads = demand.threads;
    if let Some((most, by)) = room
        .threads
        .filter(|(most, _)| *most < threads + SPARE_THREADS)
    {
        let enough = connections_by_threads(most);
        problems.push(problem(
            format!(
                "{connections} connections take up to {threads} threads, and {by} allows {most}, which is enough for \
                 {enough} connections"
            ),
            "raise it or lower CHAT_WEBSOCKET_MAX_CONNECTIONS",
        ));
    }
    if let Some((most, by)) = room.memory.filter(|(most, _)| *most < demand.full_bytes) {
        let (bytes, when) = match most < demand.resting_bytes {
            true => (demand.resting_bytes, "take"),
            false => (demand.full_bytes, "that stop reading may take"),
        };
        let (bytes, most) = (megabytes(bytes), megabytes(most));
        problems.push(problem(
            format!("{connections} connections {when} up to {bytes} MB, and {by} allows {most} MB"),
            "raise it, or lower CHAT_WEBSOCKET_MAX_CONNECTIONS or CHAT_WEBSOCKET_QUEUE_BYTES",
        ));
    }
    problems
}

/// How many connections this number of threads allows, at least one.
pub fn connections_by_threads(threads: u64) -> u64 {
    threads.saturating_sub(OTHER_THREADS + SPARE_THREADS).max(1)
}

/// How many connections this number of descriptors allows, at least one.
pub fn connections_by_files(files: u64) -> u64 {
    files.saturating_sub(OTHER_FILES).max(1)
}

/// How many connections this much address space allows, at least one; each has a thread with this stack. If a thread
/// cannot be created, a client is refused; if a buffer cannot be allocated, the process ends.
pub fn connections_by_space(space: u64, stack: usize, limits: &Limits) -> u64 {
    let others = BASE_SPACE + limits.db_connections as u64 * DB_CONNECTION_SPACE;
    let each = stack as u64 + 2 * CONNECTION_BYTES;
    (space.saturating_sub(others) / each).max(1)
}

fn megabytes(bytes: u64) -> u64 {
    bytes.div_ceil(1_000_000)
}

fn available_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// The lowest limit of a control group and its ancestors, in cgroup v1 and v2; `None` if none is set.
fn group_limit(
    groups: &str,
    root: &Path,
    controller: &str,
    newer: &str,
    older: &str,
) -> Option<u64> {
    // cgroup v1 writes "no limit" as the largest whole number of pages, which are 64 KiB at most.
    const UNLIMITED: u64 = i64::MAX as u64 - 0xffff;
    let limits = groups.lines().flat_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let names = parts.next().unwrap_or_default();
        let path = parts.next().unwrap_or_default();
        let (base, file) = match names {
            "" => (root.to_owned(), newer),
            names if names.split(',').any(|name| name == controller) => {
                (root.join(controller), older)
            }
            _ => return Vec::new(),
        };
        let inner = Path::new(path.trim_start_matches('/'));
        let read = |folder: &Path| {
            let text = fs::read_to_string(base.join(folder).join(file)).ok()?;
            text.trim().parse::<u64>().ok()
        };
        inner.ancestors().filter_map(read).collect()
    });
    limits.filter(|limit| *limit < UNLIMITED).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn demand() -> Demand {
        Demand::of(&Limits::default(), 64 << 10)
    }

    fn bound(most: u64) -> Option<Bound> {
        Some((most, "a bound"))
    }

    fn found(room: &Room) -> Vec<String> {
        let found = shortages(&demand(), room);
        found.iter().map(Problem::detail).collect()
    }

    #[test]
    fn limits_add_up() {
        let demand = demand();
        assert_eq!((demand.files, demand.threads), (1024 + 64, 1024 + 24));
        assert_eq!(demand.resting_bytes, (16 << 20) + 1024 * (24 << 10));
        let queues = 1024 * ((1 << 20) + 3 * (64 << 10));
        assert_eq!(
            demand.full_bytes,
            demand.resting_bytes + 3 * (4 << 20) + queues
        );
        assert_eq!(
            demand.to_string(),
            "1024 connections: 1088 descriptors, 1048 threads, 42 MB, at most 1330 MB where none of them reads"
        );
    }

    #[test]
    fn what_cannot_hold_is_named_with_the_tightest_bound() {
        let demand = demand();
        assert_eq!(found(&Room::default()), [""; 0]);
        let wide = Room {
            files: bound(demand.files),
            threads: bound(demand.threads + SPARE_THREADS),
            memory: bound(demand.full_bytes),
        };
        assert_eq!(found(&wide), [""; 0]);
        let narrow = Room {
            files: bound(demand.files - 1),
            threads: tightest([
                (Some(9999), "the kernel"),
                (None, "the user"),
                (Some(512), "the unit"),
            ]),
            memory: bound(512 << 20),
        };
        assert_eq!(
            found(&narrow),
            [
                "the limit of 1087 open files allows 1023 connections, not 1024",
                "1024 connections take up to 1048 threads, and the unit allows 512, which is enough for 480 connections",
                "1024 connections that stop reading may take up to 1330 MB, and a bound allows 537 MB",
            ]
        );
        let tiny = Room {
            memory: bound(10 << 20),
            ..Room::default()
        };
        assert!(found(&tiny)[0].starts_with("1024 connections take up to 42 MB"));
    }

    #[test]
    fn absurd_limits_do_not_overflow() {
        let limits = Limits {
            max_connections: 1_000_000,
            queue_bytes: 1 << 30,
            ..Limits::default()
        };
        let demand = Demand::of(&limits, 16 << 20);
        assert!(demand.full_bytes > 1 << 49);
        assert_eq!((connections_by_files(3), connections_by_threads(3)), (1, 1));
        assert_eq!(connections_by_space(3, 1 << 20, &limits), 1);
    }

    #[test]
    fn o12_address_space_of_128_mib_allows_fifty_connections() {
        let allowed = |stack| connections_by_space(128 << 20, stack, &Limits::default());
        assert_eq!((allowed(1 << 20), allowed(128 << 10)), (61, 372));
    }

    #[test]
    fn a_control_group_is_bounded_by_those_around_it_in_both_layouts() {
        let root = std::env::temp_dir().join(format!("andrea-groups-{}", std::process::id()));
        let put = |file: &str, text: &str| {
            let path = root.join(file);
            fs::create_dir_all(path.parent().expect("a folder")).expect("make the folder");
            fs::write(path, text).expect("write");
        };
        put("system.slice/memory.max", "4000\n");
        put("system.slice/chat.service/memory.max", "max\n");
        put("memory/old/memory.limit_in_bytes", "9223372036854771712\n");
        put("memory/old/chat/memory.limit_in_bytes", "3000\n");
        put("pids/old/pids.max", "64\n");
        let limit = |groups: &str, controller: &str, newer: &str, older: &str| {
            group_limit(groups, &root, controller, newer, older)
        };
        let memory = |groups: &str| limit(groups, "memory", "memory.max", "memory.limit_in_bytes");
        assert_eq!(memory("0::/system.slice/chat.service\n"), Some(4000));
        assert_eq!(memory("0::/elsewhere\n"), None);
        assert_eq!(memory("5:cpu:/\n4:memory:/old/chat\n0::/\n"), Some(3000));
        assert_eq!(memory("4:memory:/old\n"), None);
        assert_eq!(
            limit("8:pids:/old\n", "pids", "pids.max", "pids.max"),
            Some(64)
        );
        fs::remove_dir_all(&root).expect("clean up");
    }

    #[test]
    fn free_memory_is_read() {
        let text = "MemTotal:  100 kB\nMemAvailable:    50 kB\n";
        assert_eq!(available_bytes(text), Some(50 * 1024));
        assert_eq!(available_bytes("MemTotal: 1 kB\n"), None);
    }
}
