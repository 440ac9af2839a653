//! A frame: `andrea_chat_websocket_fuzz::event`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| andrea_chat_websocket_fuzz::event(bytes));
