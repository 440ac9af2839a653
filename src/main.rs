//! Allocator, parse, run, exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    andrea_chat_websocket::memory::give_back_large_blocks();
    andrea_chat_websocket::cli::run()
}
