//! One test binary, so that it links once. Each module is one subject.

mod golden_events;
mod harness;
mod support;
