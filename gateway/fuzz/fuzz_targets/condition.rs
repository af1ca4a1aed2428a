#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis_gateway_fuzz::condition;

fuzz_target!(|data: &[u8]| condition::check(data));
