#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis_gateway_fuzz::message;

fuzz_target!(|data: &[u8]| message::check(data));
