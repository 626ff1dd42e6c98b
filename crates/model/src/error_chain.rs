use std::error::Error;

/// An error with all that caused it, for the server's log.
pub fn error_chain(error: &dyn Error) -> String {
    let mut text = words_of(error);
    let mut cause = error.source();
    while let Some(source) = cause {
        let told = words_of(source);
        // Some tell their cause themselves.
        if !text.ends_with(&told) {
            text.push_str(": ");
            text.push_str(&told);
        }
        cause = source.source();
    }
    text
}

/// What Parquet and DataFusion put before an error that they carry for others: it tells nothing.
const WORDS_OF_CARRIERS: [&str; 2] = ["External: ", "External error: "];

fn words_of(error: &dyn Error) -> String {
    let text = error.to_string();
    let carried = WORDS_OF_CARRIERS.iter().find_map(|word| text.strip_prefix(word));
    carried.filter(|_| error.source().is_some()).map_or_else(|| text.clone(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{what}")]
    struct Told {
        what: String,
        source: io::Error,
    }

    #[test]
    fn a_cause_is_told_once() {
        let told = |what: &str| error_chain(&Told { what: what.to_owned(), source: io::Error::other("no disk") });
        assert_eq!(told("it fails"), "it fails: no disk");
        assert_eq!(told("it fails: no disk"), "it fails: no disk");
        assert_eq!(told("no disk, it says"), "no disk, it says: no disk");
        assert_eq!(told("External: no disk"), "no disk");
        let carried =
            io::Error::other(Told { what: "External: no disk".to_owned(), source: io::Error::other("no disk") });
        assert_eq!(error_chain(&Told { what: "it fails".to_owned(), source: carried }), "it fails: no disk");
    }
}
