//! A request: `andrea_chat_websocket_fuzz::handshake`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| andrea_chat_websocket_fuzz::handshake(bytes));
