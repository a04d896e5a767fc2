//! Fuzzes the parser of the file of settings. `README.md` says how to run it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rinit::config::{Faults, Layer, for_supervisor, parse_file};
use std::path::Path;

fuzz_target!(|input: &[u8]| {
    // The first byte chooses the format.
    let Some((first, input)) = input.split_first() else { return };
    let Ok(text) = std::str::from_utf8(input) else { return };
    let name = if first % 2 == 0 { "f.toml" } else { "f.json" };
    let mut faults = Faults::default();
    let file = parse_file(Path::new(name), text, &Layer::default(), &mut faults);
    let is_read = faults.0.is_empty();
    let config = for_supervisor(&Layer::default(), &file, &[], Path::new("/"), &mut faults);
    for place in faults.0.iter().filter_map(|fault| fault.place.as_ref()) {
        assert!(place.line <= text.split('\n').count(), "{place} is not in the text");
    }
    // A file that can be used is read in the same way again.
    if is_read && faults.0.is_empty() {
        let again = parse_file(Path::new(name), text, &Layer::default(), &mut faults);
        let again = for_supervisor(&Layer::default(), &again, &[], Path::new("/"), &mut faults);
        assert!(again.app_summaries().eq(config.app_summaries()));
    }
});
