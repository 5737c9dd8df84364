#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| onlyonce_fuzz_targets::codec_response(data));
