//! The agents' internal chat of Andrea Helpdesk as one daemon.
#![forbid(unsafe_code)]

pub mod auth;
pub mod model;
pub mod protocol;
pub mod clock;
pub mod exit_code;
pub mod log_file;
pub mod pid_file;
pub mod settings;
