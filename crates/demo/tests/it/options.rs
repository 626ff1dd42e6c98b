//! Options as they are typed.

use clap::{Args, Command, FromArgMatches};
use std::time::Duration;
use tracehouse_demo::DemoOptions;
use tracehouse_demo::options::parse_duration;

#[test]
fn durations_are_read() {
    let cases = [
        ("30s", Some(30_000)),
        ("5m", Some(300_000)),
        ("1h", Some(3_600_000)),
        ("1h30m", Some(5_400_000)),
        ("7d", Some(604_800_000)),
        ("250ms", Some(250)),
        ("", None),
        ("30", None),
        ("s", None),
        ("-5s", None),
        ("1.5h", None),
        ("3w", None),
        ("99999999999d", None),
    ];
    for (text, millis) in cases {
        assert_eq!(parse_duration(text).ok(), millis.map(Duration::from_millis), "{text}");
    }
}

fn parse(arguments: &[&str]) -> Result<DemoOptions, clap::Error> {
    let command = DemoOptions::augment_args(Command::new("demo").no_binary_name(true));
    DemoOptions::from_arg_matches(&command.try_get_matches_from(arguments)?)
}

#[test]
fn defaults_and_bounds_hold() {
    let options = parse(&[]).expect("no argument is needed");
    assert_eq!((options.endpoint.as_str(), options.rate, options.seed), ("http://127.0.0.1:4317", 20.0, 42));
    assert!(options.facts.is_none() && options.duration.is_none() && options.history.is_none());
    for refused in [["--rate", "0"], ["--rate", "-3"], ["--rate", "NaN"], ["--rate", "1e9"], ["--history", "90d"]] {
        assert!(parse(&refused).is_err(), "{refused:?}");
    }
}
