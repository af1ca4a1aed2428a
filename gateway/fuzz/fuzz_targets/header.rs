#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis_gateway_fuzz::header;

fuzz_target!(|data: &[u8]| header::check(data));
