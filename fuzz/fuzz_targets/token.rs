//! A token: `andrea_chat_websocket_fuzz::token`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| andrea_chat_websocket_fuzz::token(bytes));
