#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis_gateway_fuzz::token;

fuzz_target!(|data: &[u8]| token::check(data));
