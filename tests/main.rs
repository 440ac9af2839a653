//! One test binary, so that it links once. Each module is one subject.

#![allow(
    clippy::unwrap_used,
    reason = "a test that stops at what it did not expect has done its work"
)]

mod app_cache;
mod asyncapi;
mod attacks;
#[cfg(feature = "embedded")]
mod browser;
mod burst;
mod ceiling;
mod check;
mod cli_files;
mod container;
mod contrib_files;
mod contrib_run;
mod database_cuts;
mod database_locks;
mod database_trouble;
#[cfg(feature = "embedded")]
mod demo;
mod dependencies;
#[cfg(feature = "embedded")]
mod embedded;
mod fuzz;
mod golden_dotenv;
mod golden_events;
mod golden_handshake;
mod golden_render;
mod golden_render_live;
mod golden_supervisor;
mod hand_over;
mod harness;
mod health;
mod hostile;
mod lifecycle;
mod limits;
mod liveness;
mod operate;
mod ops_golden;
mod ops_golden_listen;
mod ops_golden_second;
mod other_door;
mod outer_clients;
mod prune;
#[cfg(feature = "push")]
mod push;
mod random;
mod readme;
mod rounds;
mod security;
mod security_access;
mod security_process;
mod sending_again;
mod several_machines;
mod shutdown;
mod soak;
mod store_contract;
mod supervise;
mod support;
mod systemd;
mod text_hostile;
mod text_model;
mod text_properties;
mod web_servers;
mod wire_frames;
mod wire_limits;
