//! Whether the configured limits can hold on this machine: connections, descriptors, threads and memory, added up and
//! held against what the system allows this process. The sums are pure; [`Room::here`] looks.

use std::fmt;
use std::fs;
use std::path::Path;
use std::thread;

use rustix::process::{Resource, getrlimit};

use crate::connection::PIECE_BYTES;
use crate::limits::Limits;

/// Descriptors that are not sockets of clients: database, log, epoll, standard streams, some to spare.
pub const OTHER_FILES: u64 = 64;
/// Threads beside the workers: every row of the table in ARCHITECTURE.md, those of a stop included.
const OTHER_THREADS: u64 = 24;
/// What the service takes without connections, in bytes: measured 8 MB, and what it keeps of a busy hour.
const BASE_BYTES: u64 = 16 << 20;
/// What it takes beside that while it is busy, in bytes: the buffers of seven connections to the database, 4 MiB each.
const BUSY_BYTES: u64 = 28 << 20;
/// What a connection takes that has sent and received and is silent now, in bytes: measured 3.6 KB of 10,000.
const CONNECTION_BYTES: u64 = 4 << 10;
/// Largest frame that a socket is sent, whatever may wait for it, in bytes: a message, its text and its HTML of 64 KiB each,
/// every byte as long in JSON as one can be.
const LARGEST_FRAME: u64 = 2 * 6 * (64 << 10);
/// Messages of one connection that the service may hold: one that it is busy with, one whose fragments are gathered, and
/// the frame that is read meanwhile.
const INCOMING: u64 = 3;

/// How many threads handle sockets.
pub fn workers() -> usize {
    thread::available_parallelism().map_or(2, |cores| cores.get().clamp(2, 8))
}

/// What the limits add up to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Demand {
    /// Sockets of clients.
    pub connections: u64,
    /// Descriptors.
    pub files: u64,
    /// Threads.
    pub threads: u64,
    /// Bytes with all connections there, and silent.
    pub resting_bytes: u64,
    /// Bytes where, beside that, the service is busy, and every one of them has let its queue fill up and is in the
    /// middle of the largest message.
    pub full_bytes: u64,
}

impl Demand {
    /// Of these limits, with so many workers, and `message_bytes` as the largest message.
    pub fn of(limits: &Limits, message_bytes: usize, workers: usize) -> Self {
        let connections = limits.max_connections as u64;
        let outgoing = (limits.queue_bytes as u64).max(LARGEST_FRAME);
        let incoming = INCOMING * message_bytes as u64 + PIECE_BYTES as u64;
        let each = outgoing.saturating_add(incoming);
        let resting_bytes = BASE_BYTES + connections * CONNECTION_BYTES;
        Demand {
            connections,
            files: connections + OTHER_FILES,
            threads: OTHER_THREADS + workers as u64,
            resting_bytes,
            full_bytes: (resting_bytes + BUSY_BYTES)
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

/// What bounds something, and by how much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// The number.
    pub most: u64,
    /// Whose it is.
    pub by: &'static str,
}

/// What the system allows; nothing where it does not say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// Descriptors of this process.
    pub files: Vec<Bound>,
    /// Threads.
    pub threads: Vec<Bound>,
    /// Bytes.
    pub memory: Vec<Bound>,
}

impl Room {
    /// Of this process.
    pub fn here() -> Self {
        let resource = |resource, by| getrlimit(resource).current.map(|most| Bound { most, by });
        let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let group = |controller, newer, older, by| {
            let root = Path::new("/sys/fs/cgroup");
            group_limit(&groups, root, controller, newer, older).map(|most| Bound { most, by })
        };
        // Who is root may pass over the number of processes of a user.
        let of_user = match rustix::process::geteuid().is_root() {
            true => None,
            false => resource(
                Resource::Nproc,
                "the user's limit of processes (ulimit -u, LimitNPROC)",
            ),
        };
        let of_kernel = fs::read_to_string("/proc/sys/kernel/threads-max").ok();
        let of_kernel = of_kernel.and_then(|text| text.trim().parse().ok());
        let unused = fs::read_to_string("/proc/meminfo").ok();
        let unused = unused.and_then(|text| available_bytes(&text));
        let list = |bounds: [Option<Bound>; 3]| bounds.into_iter().flatten().collect();
        Room {
            // The soft limit is raised to this one.
            files: list([
                getrlimit(Resource::Nofile).maximum.map(|most| Bound {
                    most,
                    by: "the limit of open files (LimitNOFILE, ulimit -n)",
                }),
                None,
                None,
            ]),
            threads: list([
                group(
                    "pids",
                    "pids.max",
                    "pids.max",
                    "the unit's task limit (TasksMax)",
                ),
                of_user,
                of_kernel.map(|most| Bound {
                    most,
                    by: "the kernel (kernel.threads-max)",
                }),
            ]),
            memory: list([
                group(
                    "memory",
                    "memory.max",
                    "memory.limit_in_bytes",
                    "the unit's memory limit (MemoryMax)",
                ),
                resource(
                    Resource::As,
                    "the limit of address space (ulimit -v, LimitAS)",
                ),
                unused.map(|most| Bound {
                    most,
                    by: "what this machine has left",
                }),
            ]),
        }
    }
}

/// What cannot hold, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shortage {
    /// What is too small for what.
    pub detail: String,
    /// What to do.
    pub remedy: &'static str,
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.detail, self.remedy)
    }
}

/// Everything of `demand` for which there is no `room`; of several bounds the tightest is named.
pub fn shortages(demand: &Demand, room: &Room) -> Vec<Shortage> {
    let tightest = |bounds: &[Bound], wanted: u64| {
        let least = bounds.iter().min_by_key(|bound| bound.most).copied();
        least.filter(|bound| bound.most < wanted)
    };
    let mut found = Vec::new();
    if let Some(bound) = tightest(&room.files, demand.files) {
        found.push(Shortage {
            detail: format!(
                "the limit of {} open files allows {} connections, not {}",
                bound.most,
                connections_of(bound.most),
                demand.connections
            ),
            remedy: "raise it (LimitNOFILE, ulimit -n) or lower CHAT_WEBSOCKET_MAX_CONNECTIONS",
        });
    }
    if let Some(bound) = tightest(&room.threads, demand.threads) {
        found.push(Shortage {
            detail: format!(
                "the service takes up to {} threads, and {} allows {}",
                demand.threads, bound.by, bound.most
            ),
            remedy: "raise it, or a thread cannot be started when it is needed",
        });
    }
    if let Some(bound) = tightest(&room.memory, demand.full_bytes) {
        let (bytes, when) = match bound.most < demand.resting_bytes {
            true => (demand.resting_bytes, "take"),
            false => (demand.full_bytes, "that stop reading may take"),
        };
        found.push(Shortage {
            detail: format!(
                "{} connections {when} up to {} MB, and {} allows {} MB",
                demand.connections,
                megabytes(bytes),
                bound.by,
                megabytes(bound.most)
            ),
            remedy: "raise it, or lower CHAT_WEBSOCKET_MAX_CONNECTIONS or CHAT_WEBSOCKET_QUEUE_BYTES",
        });
    }
    found
}

/// How many connections so many descriptors allow, at least one.
pub fn connections_of(files: u64) -> u64 {
    files.saturating_sub(OTHER_FILES).max(1)
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

/// The lowest limit of a control group and those around it, in either layout of the file system; none where nobody has
/// set one.
fn group_limit(
    groups: &str,
    root: &Path,
    controller: &str,
    newer: &str,
    older: &str,
) -> Option<u64> {
    // Written by the older layout for "no limit": the largest number of whole pages.
    const UNLIMITED: u64 = i64::MAX as u64 - 0xffff;
    let limits = groups.lines().flat_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (names, path) = (
            parts.next().unwrap_or_default(),
            parts.next().unwrap_or_default(),
        );
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
        Demand::of(&Limits::default(), 64 << 10, 2)
    }

    fn bound(most: u64) -> Vec<Bound> {
        vec![Bound {
            most,
            by: "a bound",
        }]
    }

    #[test]
    fn limits_add_up() {
        let demand = demand();
        assert_eq!((demand.files, demand.threads), (1024 + 64, 26));
        assert_eq!(demand.resting_bytes, (16 << 20) + 1024 * (4 << 10));
        let queues = 1024 * ((1 << 20) + 3 * (64 << 10) + (16 << 10));
        assert_eq!(
            demand.full_bytes,
            demand.resting_bytes + BUSY_BYTES + queues
        );
        assert_eq!(
            demand.to_string(),
            "1024 connections: 1088 descriptors, 26 threads, 21 MB, at most 1343 MB where none of them reads"
        );
    }

    #[test]
    fn what_cannot_hold_is_named_with_the_tightest_bound() {
        let demand = demand();
        assert_eq!(shortages(&demand, &Room::default()), []);
        let wide = Room {
            files: bound(demand.files),
            threads: bound(demand.threads),
            memory: bound(demand.full_bytes),
        };
        assert_eq!(shortages(&demand, &wide), []);
        let narrow = Room {
            files: bound(demand.files - 1),
            threads: vec![
                Bound {
                    most: 9999,
                    by: "the kernel",
                },
                Bound {
                    most: 16,
                    by: "the unit",
                },
            ],
            memory: bound(512 << 20),
        };
        let found: Vec<String> = shortages(&demand, &narrow)
            .iter()
            .map(|one| one.detail.clone())
            .collect();
        assert_eq!(
            found,
            [
                "the limit of 1087 open files allows 1023 connections, not 1024",
                "the service takes up to 26 threads, and the unit allows 16",
                "1024 connections that stop reading may take up to 1343 MB, and a bound allows 537 MB",
            ]
        );
        let tiny = Room {
            memory: bound(10 << 20),
            ..Room::default()
        };
        let found = shortages(&demand, &tiny);
        assert!(
            found[0]
                .detail
                .starts_with("1024 connections take up to 21 MB")
        );
    }

    #[test]
    fn absurd_limits_do_not_overflow() {
        let limits = Limits {
            max_connections: 1_000_000,
            queue_bytes: 1 << 30,
            ..Limits::default()
        };
        let demand = Demand::of(&limits, 16 << 20, 8);
        assert!(demand.full_bytes > 1 << 49);
        assert_eq!(connections_of(3), 1);
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
