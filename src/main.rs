//! Parse, run, exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    andrea_chat_websocket::cli::run()
}
