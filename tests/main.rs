//! One test binary, so that it links once. Each module is one subject.

#![allow(
    clippy::unwrap_used,
    reason = "a test that stops at what it did not expect has done its work"
)]

mod contrib_files;
#[cfg(feature = "embedded")]
mod embedded;
mod golden_dotenv;
mod golden_events;
mod golden_handshake;
mod golden_render;
mod golden_render_live;
mod harness;
mod hostile;
mod other_door;
mod outer_clients;
mod random;
mod sending_again;
mod several_machines;
mod store_contract;
mod support;
mod text_hostile;
mod text_model;
mod text_properties;
