//! An `.env` file: `andrea_chat_websocket_fuzz::dotenv`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| andrea_chat_websocket_fuzz::dotenv(bytes));
