#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| event_log_sled::fuzzing::import(input));
