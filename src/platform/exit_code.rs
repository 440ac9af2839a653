//! The exit codes. `cli/manual.rs` says which subcommand ends with which, and when.

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident $code:literal $meaning:literal)*) => {
        $($(#[$doc])* pub const $name: u8 = $code;)*

        /// All exit codes, each with its meaning for every subcommand.
        pub const ALL: &[(u8, &str)] = &[$(($code, $meaning)),*];
    };
}

codes! {
    /// A clean end, or a healthy daemon runs already.
    OK 0 "done; `status`: the service runs"
    /// The address cannot be bound, or a daemon that gives no sign of life holds the pid file.
    FAILED 1 "failed or refused; `status`: the service is stopped"
    /// `status`: the service is recorded as running, but gives no sign of life.
    STALE 2 "`status`: recorded as running, but without a heartbeat"
    /// `status`: the last start failed.
    START_FAILED 3 "`status`: the last start failed"
    /// `status`: the state of the service cannot be determined.
    CANNOT_TELL 4 "`status`: cannot tell"
    /// The command line is wrong (sysexits EX_USAGE).
    USAGE 64 "wrong command line"
    /// The database cannot be reached (EX_UNAVAILABLE).
    UNAVAILABLE 69 "the database or the service does not answer"
    /// A fault of the service itself (EX_SOFTWARE).
    SOFTWARE 70 "an internal fault"
    /// A file or folder of the storage cannot be made or written (EX_CANTCREAT).
    CANNOT_CREATE 73 "a file or folder cannot be created or written"
    /// `.env`, environment or settings are wrong (EX_CONFIG).
    CONFIG 78 "wrong configuration"
}
