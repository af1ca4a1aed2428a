#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis_gateway_fuzz::events;

fuzz_target!(|data: &[u8]| events::check(data));
