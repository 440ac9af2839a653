//! Faults that a test asks for: a panic in the thread of its choice. For debug builds alone; in a release build
//! nothing of it is left.

/// Panics where a test has put a file of this name into the folder that `ANDREA_TEST_PANIC` names; once, for the file
/// is gone then.
#[cfg(debug_assertions)]
pub fn point(name: &str) {
    use std::path::PathBuf;
    use std::sync::OnceLock;
    static FOLDER: OnceLock<Option<PathBuf>> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| std::env::var_os("ANDREA_TEST_PANIC").map(PathBuf::from));
    if let Some(folder) = folder
        && std::fs::remove_file(folder.join(name)).is_ok()
    {
        panic!("a test has asked for this panic of {name}");
    }
}

/// Does nothing.
#[cfg(not(debug_assertions))]
pub const fn point(_: &str) {}
