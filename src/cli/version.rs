//! What `--version` says.

/// The version, the commit where it is known, and what was built in.
pub(super) const LONG: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    env!("ANDREA_CHAT_BUILD"),
    "\nfeatures: ",
    env!("ANDREA_CHAT_FEATURES")
);
