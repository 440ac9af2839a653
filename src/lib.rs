//! The agents' internal chat of Andrea Helpdesk as one daemon; ARCHITECTURE.md is the way in. Modules stand in the order in
//! which they use each other: each uses what stands below it, and never what stands above (`tests/tidy.rs`).
//!
//! ```text
//! in:   socket -> websocket -> session -> protocol, then chat -> store
//! out:  chat -> feed -> hub -> outbox -> socket
//! ```

#![forbid(unsafe_code)]

pub mod cli;

#[cfg(feature = "embedded")]
pub mod demo;

pub mod admin;
pub mod server;
pub mod supervisor;

pub mod websocket;

pub mod chat;
pub mod feed;
pub mod session;

pub mod notifications;

pub mod bus;
pub mod hub;
pub mod push;

pub mod store;
pub mod text;

pub mod auth;
pub mod http;
pub mod protocol;

pub mod config;
pub mod model;
pub mod platform;
