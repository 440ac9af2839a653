//! The agents' internal chat of Andrea Helpdesk as one daemon; ARCHITECTURE.md is the way in.
//!
//! ```text
//! in:   socket -> connection -> session -> protocol, then service -> store
//! out:  service -> hub -> outbox -> socket
//! ```

pub mod app_cache;
pub mod auth;
pub mod budget;
pub mod bus;
pub mod cli;
pub mod clock;
pub mod config;
pub mod connection;
pub mod daemon;
#[cfg(feature = "embedded")]
pub mod demo;
pub mod dotenv;
pub mod exit_code;
pub mod fault;
pub mod frame;
pub mod health;
pub mod heartbeat;
pub mod hits;
pub mod hub;
pub mod job_queue;
pub mod limits;
pub mod log_file;
pub mod memory;
pub mod metrics;
pub mod model;
pub mod net;
pub mod notify;
pub mod operate;
pub mod peers;
pub mod pid_file;
pub mod places;
pub mod process;
pub mod protocol;
pub mod pulse;
pub mod push;
pub mod service;
pub mod session;
pub mod settings;
pub mod store;
pub mod supervise;
pub mod text;
pub mod vital;
pub mod watch;
