//! What the black-box tests share: a private MariaDB, SQLite files, the daemon as a child process, a raw WebSocket
//! client, tokens, row snapshots, and the words of the recorded files. Nothing in here knows the inside
//! of the program under test; nothing in here is a test.

#![allow(
    dead_code,
    reason = "a toolbox: which tool a test happens to use today is no measure of what belongs in it"
)]

#[macro_use]
pub mod needs;

pub mod chat;
pub mod clock;
pub mod cron;
pub mod daemon;
#[cfg(feature = "embedded")]
pub mod demo;
pub mod disk;
pub mod document;
#[cfg(feature = "embedded")]
pub mod embedded;
pub mod expect;
pub mod fake_mysql;
pub mod fixtures;
pub mod json;
pub mod jwt;
pub mod machine;
pub mod mariadb;
pub mod notify;
pub mod ops;
pub mod outcome;
pub mod proxy;
pub mod push_service;
pub mod reaper;
pub mod redis;
pub mod replay;
pub mod rows;
pub mod script;
pub mod seed;
pub mod signals;
pub mod sql;
pub mod stopwatch;
pub mod tables;
pub mod typescript;
pub mod wait;
pub mod watch;
pub mod web_server;
pub mod workers;
pub mod ws;
