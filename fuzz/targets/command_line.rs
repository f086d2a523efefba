#![no_main]
#![warn(clippy::pedantic)]

libfuzzer_sys::fuzz_target!(|input: &[u8]| checks::command_line::check(input));
