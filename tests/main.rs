//! One test binary, so that it links once. Each module is one subject.

#![allow(
    clippy::unwrap_used,
    reason = "a test that stops at what it did not expect has done its work"
)]

#[macro_use]
mod support;

mod app_cache;
mod asyncapi;
mod attacks;
#[cfg(feature = "embedded")]
mod autobahn;
mod browser;
mod check;
mod cli_files;
mod client;
#[cfg(feature = "embedded")]
mod client_docs;
mod configuration;
#[cfg(feature = "embedded")]
mod conformance;
mod container;
mod contrib_files;
mod contrib_run;
mod crash_in_burst;
mod database_defaults;
mod database_disconnects;
mod database_errors;
mod database_idle;
mod database_locks;
mod database_outages;
#[cfg(feature = "db-tls")]
mod database_tls;
mod delivery_order;
#[cfg(feature = "embedded")]
mod demo;
mod dependencies;
#[cfg(feature = "push")]
mod doctor;
mod doctor_service;
mod documents;
#[cfg(feature = "embedded")]
mod embedded;
mod few_connections;
mod foreign_writers;
mod fuzz;
mod golden_dotenv;
mod golden_events;
mod golden_handshake;
mod golden_render;
mod golden_render_live;
mod golden_supervisor;
mod harness;
mod health;
mod heavy_queries;
mod install;
mod lifecycle;
mod limits;
mod liveness;
mod log_lines;
mod memory_limit;
mod misbehaving_peers;
mod monitoring;
mod one_day;
mod operate;
mod ops_golden;
mod ops_golden_listen;
mod ops_golden_pid_file;
#[cfg(feature = "embedded")]
mod other_users;
mod poor_machine;
mod prune;
#[cfg(feature = "push")]
mod push;
#[cfg(feature = "push")]
mod push_delays;
mod random;
mod readme;
mod release;
mod repeated_hour;
mod retry_and_resume;
mod rounds;
#[cfg(feature = "embedded")]
mod rules;
mod schemas;
mod search;
mod security;
mod security_access;
mod security_process;
mod several_machines;
mod shutdown;
mod soak;
mod standards;
mod status_watch;
mod store_contract;
mod supervise;
mod systemd;
mod targets;
mod text_complexity;
mod text_model;
mod text_properties;
mod third_party_clients;
mod tidy;
mod web_servers;
mod wire_frames;
mod wire_limits;
mod zz_skipped;
