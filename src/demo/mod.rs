//! The demo: a helpdesk's chat without a helpdesk.

pub mod data;
mod http;
mod panel;
pub(crate) mod run;
pub(crate) mod site;
