//! The exit codes. `cli/manual.rs` says which subcommand ends with which, and when.

/// A clean end, or a healthy daemon runs already.
pub const OK: u8 = 0;
/// The address cannot be bound, or a daemon that gives no sign of life holds the pid file.
pub const FAILED: u8 = 1;
/// `status`: the service is recorded as running, but gives no sign of life.
pub const STALE: u8 = 2;
/// `status`: the last start failed.
pub const START_FAILED: u8 = 3;
/// `status`: the state of the service cannot be determined.
pub const CANNOT_TELL: u8 = 4;
/// The command line is wrong (sysexits EX_USAGE).
pub const USAGE: u8 = 64;
/// The database cannot be reached (EX_UNAVAILABLE).
pub const UNAVAILABLE: u8 = 69;
/// A fault of the service itself (EX_SOFTWARE).
pub const SOFTWARE: u8 = 70;
/// A file or folder of the storage cannot be made or written (EX_CANTCREAT).
pub const CANNOT_CREATE: u8 = 73;
/// `.env`, environment or settings are wrong (EX_CONFIG).
pub const CONFIG: u8 = 78;

/// All exit codes, each with its meaning for every subcommand.
pub const ALL: [(u8, &str); 10] = [
    (OK, "done; `status`: the service runs"),
    (
        FAILED,
        "failed or refused; `status`: the service is stopped",
    ),
    (
        STALE,
        "`status`: recorded as running, but without a heartbeat",
    ),
    (START_FAILED, "`status`: the last start failed"),
    (CANNOT_TELL, "`status`: cannot tell"),
    (USAGE, "wrong command line"),
    (UNAVAILABLE, "the database or the service does not answer"),
    (SOFTWARE, "an internal fault"),
    (
        CANNOT_CREATE,
        "a file or folder cannot be created or written",
    ),
    (CONFIG, "wrong configuration"),
];
