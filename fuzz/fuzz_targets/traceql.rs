//! Any text: the parser, the checks and the error renderer must not panic, hang or overflow the stack, and whatever
//! parses must survive printing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tracehouse_traceql::{parse, validate};

fuzz_target!(|source: &str| {
    tracehouse_traceql::conditions_of_unfinished(source);
    let query = match parse(source) {
        Ok(query) => query,
        Err(error) => {
            assert!(source.get(error.at.bytes()).is_some(), "an error points outside the query");
            assert!(!error.render(source).is_empty());
            return;
        }
    };
    let printed = query.to_string();
    match parse(&printed) {
        Ok(again) => assert_eq!(again, query, "{printed}"),
        // Printing may lengthen a query (quotes, spaces, scopes); only the length limit may refuse it.
        Err(error) => assert!(printed.len() > tracehouse_traceql::QUERY_BYTES_MAX, "{}", error.render(&printed)),
    }
    if let Err(error) = validate(&query) {
        assert!(source.get(error.at.bytes()).is_some(), "an error points outside the query");
        assert!(!error.render(source).is_empty());
    }
});
