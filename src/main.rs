//! Parse, run, exit code.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    andrea_chat_websocket::cli::run()
}
