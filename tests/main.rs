//! One test binary, so that it links once. Each module is one subject.

mod golden_dotenv;
mod golden_events;
mod golden_handshake;
mod golden_render;
mod golden_render_live;
mod harness;
mod random;
mod support;
mod text_hostile;
mod text_model;
mod text_properties;
