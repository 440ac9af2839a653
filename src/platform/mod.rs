//! The machine and this process: clock, files, log, other processes, threads, addresses. Nothing here knows the chat or its
//! configuration.

pub mod clock;
pub mod exit_code;
pub mod failpoint;
pub mod log_file;
pub mod log_throttle;
pub mod metrics;
pub mod net;
pub mod number;
pub mod owned_file;
pub mod paths;
pub mod pid_file;
pub mod printable;
pub mod problem;
pub mod process;
pub mod redis;
pub mod systemd;
pub mod threads;
