//! A message body: `andrea_chat_websocket_fuzz::body`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| andrea_chat_websocket_fuzz::body(bytes));
