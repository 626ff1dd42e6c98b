use std::error::Error;

/// An error with all that caused it, for the server's log.
pub fn error_chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        let told = source.to_string();
        // Some tell their cause themselves.
        if !text.ends_with(&told) {
            text.push_str(": ");
            text.push_str(&told);
        }
        cause = source.source();
    }
    text
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
    }
}
