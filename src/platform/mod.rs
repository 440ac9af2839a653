//! The machine and this process: clock, files, log, other processes, threads, addresses. Nothing here knows the chat or its
//! configuration.

pub mod clock;
pub mod exit_code;
pub(crate) mod failpoint;
pub(crate) mod log_file;
pub(crate) mod log_throttle;
pub(crate) mod metrics;
pub(crate) mod net;
pub(crate) mod number;
pub(crate) mod owned_file;
pub(crate) mod paths;
pub mod pid_file;
pub(crate) mod printable;
pub(crate) mod problem;
pub mod process;
pub(crate) mod redis;
pub(crate) mod systemd;
pub mod threads;
