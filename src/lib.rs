//! The agents' internal chat of Andrea Helpdesk as one daemon; ARCHITECTURE.md is the way in. Modules stand in the order in
//! which they use each other: each uses what stands below it, and never what stands above (`tests/tidy.rs`).
//!
//! ```text
//! in:   socket -> websocket -> session -> protocol, then chat -> store
//! out:  chat -> feed -> hub -> outbox -> socket
//! ```

#![forbid(unsafe_code)]
#![warn(unreachable_pub)]

pub mod cli;

#[cfg(feature = "embedded")]
pub mod demo;

pub mod admin;
pub(crate) mod server;
pub mod supervisor;

pub mod websocket;

pub mod chat;
pub(crate) mod feed;
pub mod session;

pub(crate) mod notifications;

pub(crate) mod bus;
pub mod hub;
pub(crate) mod push;

pub mod store;
pub mod text;

pub mod auth;
pub(crate) mod http;
pub mod protocol;

pub mod config;
pub mod model;
pub mod platform;
