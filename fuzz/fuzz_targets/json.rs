//! Any text is a report or a baseline, or is refused with a place. A report that reads can be written in every format, and
//! reads back as what it was.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tch_audit::diagnostic::Source;
use tch_audit::policy::Baseline;
use tch_audit::report::{Format, json};

fuzz_target!(|text: &str| {
    let source = |text: &str| Source::new("f.json", text);
    match Baseline::parse(source(text)) {
        Ok(baseline) => {
            let mut out = Vec::new();
            baseline.write(&mut out).expect("memory");
            let again = Baseline::parse(source(std::str::from_utf8(&out).expect("UTF-8")));
            assert_eq!(again.expect("what was written"), baseline);
        }
        Err(error) => assert!(error.to_string().starts_with("error["), "{error}"),
    }
    match json::read(&source(text)) {
        Ok(report) => {
            for format in Format::ALL {
                let mut out = Vec::new();
                format.write(&report, &mut out).expect("memory");
                if format == Format::Json {
                    let again = json::read(&source(std::str::from_utf8(&out).expect("UTF-8")));
                    assert_eq!(again.expect("what was written"), report);
                }
            }
        }
        Err(error) => assert!(error.to_string().starts_with("error["), "{error}"),
    }
});
