//! One test binary, so that it links once. Each module is one subject.

mod golden_events;
mod golden_handshake;
mod golden_render_live;
mod harness;
mod support;
