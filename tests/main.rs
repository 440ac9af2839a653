//! One test binary, so that it links once. Each module is one subject.

mod contrib_files;
mod golden_events;
mod harness;
mod support;
