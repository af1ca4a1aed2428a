#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis_gateway_fuzz::front;

fuzz_target!(|data: &[u8]| front::check(data));
