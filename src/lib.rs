//! The agents' internal chat of Andrea Helpdesk as one daemon.
#![forbid(unsafe_code)]

pub mod dotenv;
pub mod text;
