//! The internal chat for agents of Andrea Helpdesk, as one daemon; start with ARCHITECTURE.md. The order of the modules is
//! the order of use: a module uses only modules that stand below it (`tests/tidy.rs` checks that).
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
