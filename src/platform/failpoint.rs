//! Panics in a thread that a test chooses, and an echo in place of the chat. A release build has neither.

/// Panics, once, where a test has put a file of this name into the folder that `ANDREA_TEST_PANIC` names.
#[cfg(debug_assertions)]
pub(crate) fn reach(name: &str) {
    if let Some(folder) = std::env::var_os("ANDREA_TEST_PANIC")
        && std::fs::remove_file(std::path::Path::new(&folder).join(name)).is_ok()
    {
        panic!("a test has asked for this panic of {name}");
    }
}

/// Does nothing.
#[cfg(not(debug_assertions))]
pub(crate) const fn reach(_: &str) {}

/// Whether texts are to be sent back as they came, for conformance tests of the WebSocket module alone.
pub(crate) fn echoes() -> bool {
    cfg!(debug_assertions) && std::env::var_os("ANDREA_TEST_ECHO").is_some()
}
