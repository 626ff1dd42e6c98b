//! Origins of pages, and the patterns of them that a configuration names.

use std::fmt;
use std::net::Ipv6Addr;

/// An origin such as `https://shop.example`, perhaps with `*`: in a host for one or more characters of its name, as in
/// `https://*.shop.example`; for any port, as in `http://localhost:*`; for any scheme; alone for all origins.
///
/// Each part is compared by itself, and a host ends in what is written, so that a pattern never matches a host of somebody
/// else: `*` is not at the end of a name unless it is the whole of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginPattern(Kind);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    All,
    Parts(Parts),
}

/// The parts of an origin or of a pattern, in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Parts {
    scheme: String,
    /// Of version 6 with its brackets.
    host: String,
    /// None if it is the scheme's own.
    port: Option<String>,
}

/// Why a text is no pattern of origins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PatternError {
    NoOrigin {
        text: String,
        /// What was meant, most likely.
        instead: Option<String>,
    },
    OpenEnd(String),
}

impl fmt::Display for PatternError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoOrigin { text, instead: Some(instead) } => {
                write!(
                    formatter,
                    "{text:?} is no origin, which is a scheme, a host and perhaps a port: write {instead}"
                )
            }
            Self::NoOrigin { text, instead: None } => write!(
                formatter,
                "{text:?} is no origin: write a scheme and a host, such as https://shop.example or https://*.shop.example, \
                 or *"
            ),
            Self::OpenEnd(text) => write!(
                formatter,
                "{text:?} would match hosts of anybody: * may not be the end of a host's name; write its end, as in \
                 https://*.shop.example, or * for all hosts"
            ),
        }
    }
}

impl std::error::Error for PatternError {}

impl OriginPattern {
    pub fn new(text: &str) -> Result<Self, PatternError> {
        if text == "*" {
            return Ok(Self(Kind::All));
        }
        let shown = || text.chars().take(100).collect();
        let no_origin = || PatternError::NoOrigin { text: shown(), instead: origin_in(text) };
        let parts = Parts::of(text, true).ok_or_else(no_origin)?;
        let end = parts.host.rsplit('*').next().unwrap_or_default();
        let has_end = end.contains(|character: char| character.is_ascii_alphanumeric());
        if parts.host != "*" && !has_end {
            return Err(PatternError::OpenEnd(shown()));
        }
        Ok(Self(Kind::Parts(parts)))
    }

    pub(crate) fn matches(&self, origin: &str) -> bool {
        let Kind::Parts(pattern) = &self.0 else { return true };
        let Some(origin) = Parts::of(origin, false) else { return false };
        let is_port = match (&pattern.port, &origin.port) {
            (Some(pattern), _) if pattern == "*" => true,
            (pattern, port) => pattern == port,
        };
        is_port && matches(&pattern.scheme, &origin.scheme) && matches(&pattern.host, &origin.host)
    }

    /// Whether it names hosts, and not just any: then requests of their pages may carry credentials.
    pub(crate) fn names_hosts(&self) -> bool {
        matches!(&self.0, Kind::Parts(parts) if parts.host != "*")
    }
}

impl Parts {
    /// The parts of a text that is an origin or, with `*` in it, a pattern of some.
    fn of(text: &str, is_pattern: bool) -> Option<Self> {
        let text = text.to_ascii_lowercase();
        let (scheme, host_and_port) = text.split_once("://")?;
        let host_end = if host_and_port.starts_with('[') { host_and_port.find(']')? + 1 } else { 0 };
        let port_start = host_and_port[host_end..].find(':').map(|at| host_end + at);
        let (host, port) = match port_start {
            Some(at) => (&host_and_port[..at], Some(&host_and_port[at + 1..])),
            None => (host_and_port, None),
        };
        let is_star = |character| is_pattern && character == '*';
        let of_scheme = |character: char| character.is_ascii_alphanumeric() || "+-.".contains(character);
        let of_host =
            |character: char| character.is_ascii_alphanumeric() || "-_".contains(character) || is_star(character);
        let is_host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            // As browsers write it.
            Some(address) => address.parse::<Ipv6Addr>().is_ok_and(|parsed| parsed.to_string() == address),
            // A name may end with a dot.
            None => host
                .strip_suffix('.')
                .unwrap_or(host)
                .split('.')
                .all(|label| !label.is_empty() && label.chars().all(of_host)),
        };
        // As browsers write it.
        let is_number = |port: &str| port.parse::<u16>().is_ok_and(|number| number > 0 && number.to_string() == port);
        let is_port = port.is_none_or(|port| is_number(port) || (is_pattern && port == "*"));
        let is_scheme = scheme.starts_with(|first: char| first.is_ascii_alphabetic()) && scheme.chars().all(of_scheme);
        if !(is_scheme || is_pattern && scheme == "*") || !is_host || !is_port {
            return None;
        }
        // Browsers leave it out.
        let default_port = match scheme {
            "http" => Some("80"),
            "https" => Some("443"),
            _ => None,
        };
        let port = port.filter(|port| Some(*port) != default_port).map(str::to_owned);
        Some(Self { scheme: scheme.to_owned(), host: host.to_owned(), port })
    }
}

/// The origin that a text has in it: of the address of a page, or without the scheme.
fn origin_in(text: &str) -> Option<String> {
    let trimmed = text.trim();
    let (scheme, rest) = trimmed.split_once("://").unwrap_or(("https", trimmed));
    let authority = rest.split(['/', '?', '#', '\\']).next().unwrap_or_default();
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let origin = format!("{scheme}://{}", host.trim_end_matches([':', '.'])).to_ascii_lowercase();
    (host != "null" && origin != text && OriginPattern::new(&origin).is_ok()).then_some(origin)
}

/// Whether a text in ASCII is a pattern's, in which each `*` stands for one or more characters. What lies between two of them
/// is looked for where it comes first, which leaves most to the rest.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == text };
    let (between, last) = rest.rsplit_once('*').map_or((None, rest), |(between, last)| (Some(between), last));
    let Some(text) = text.strip_prefix(first).and_then(|text| text.strip_suffix(last)) else { return false };
    let parts = between.iter().flat_map(|between| between.split('*'));
    let left = parts.into_iter().try_fold(text, |text, part| Some(text.get(1..)?.split_once(part)?.1));
    left.is_some_and(|left| !left.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_its_hosts_and_no_others() {
        let cases: [(&str, &[&str], &[&str]); 11] = [
            (
                "https://shop.example",
                &["https://shop.example", "https://SHOP.example", "https://shop.example:443"],
                &[
                    "http://shop.example",
                    "https://shop.example:8443",
                    "https://shop.example.evil.org",
                    "https://evilshop.example",
                    "https://a.shop.example",
                    "shop.example",
                    "null",
                    "",
                ],
            ),
            ("https://shop.example:443", &["https://shop.example"], &["https://shop.example:80"]),
            (
                "https://*.example.com",
                &["https://a.example.com", "https://a.b.example.com", "https://A.Example.Com"],
                &[
                    "https://example.com",
                    "https://.example.com",
                    "https://evilexample.com",
                    "https://example.com.evil.org",
                    "https://a.example.com.evil.org",
                    "https://evil.com/.example.com",
                    "https://evil.com#.example.com",
                    "https://evil.com?.example.com",
                    "https://evil.com\\.example.com",
                    "https://evil.com:80.example.com",
                    "https://evil@a.example.com",
                    "https://evil.com .example.com",
                    "https://a.example.com:8443",
                    "http://a.example.com",
                    "https://*.example.com",
                ],
            ),
            (
                "https://preview-*.shop.example",
                &["https://preview-1.shop.example"],
                &["https://preview-.shop.example", "https://preview-1.shop.example.evil.org"],
            ),
            (
                "https://a*.b*.example",
                &["https://ax.by.example", "https://a.b.b.bc.example"],
                &["https://ax.b.example", "https://xa.by.example"],
            ),
            (
                "http://localhost:*",
                &["http://localhost:3000", "http://localhost"],
                &["http://localhost:evil", "http://localhost.evil.org:3000", "https://localhost:3000"],
            ),
            ("*://shop.example", &["http://shop.example", "https://shop.example"], &["https://shop.example:1"]),
            (
                "https://*",
                &["https://any.example", "https://10.1.2.3"],
                &["http://any.example", "https://any.example:1"],
            ),
            ("http://[::1]:8080", &["http://[::1]:8080"], &["http://[::1]", "http://[::2]:8080"]),
            ("chrome-extension://abcdef", &["chrome-extension://abcdef"], &["chrome-extension://abcdeg"]),
            ("*", &["https://any.example", "null"], &[]),
        ];
        for (pattern, own, others) in cases {
            let matches = |origin: &&str| OriginPattern::new(pattern).expect("a pattern").matches(origin);
            assert_eq!(own.iter().filter(|origin| !matches(origin)).count(), 0, "{pattern}");
            let taken: Vec<_> = others.iter().filter(|origin| matches(origin)).collect();
            assert!(taken.is_empty(), "{pattern} matches {taken:?}");
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused_with_the_reason() {
        let no_origin = [
            ("", None),
            ("null", None),
            ("shop.example", Some("https://shop.example")),
            ("*.shop.example", Some("https://*.shop.example")),
            ("shop.example:8443", Some("https://shop.example:8443")),
            ("https://", None),
            ("://shop.example", None),
            ("1http://shop.example", None),
            ("https://shop.example/", Some("https://shop.example")),
            ("https://a.example/path?query#part", Some("https://a.example")),
            ("https://A.example:8443/path", Some("https://a.example:8443")),
            (" https://a.example", Some("https://a.example")),
            ("https://a b", None),
            ("https://a@b", Some("https://b")),
            ("https://shop.example:x", None),
            ("https://shop.example:", Some("https://shop.example")),
            ("https://shop.example:0", None),
            ("https://shop.example:65536", None),
            ("https://shop.example:08443", None),
            ("https://shop.example:8*", None),
            ("h*s://shop.example", None),
            ("https*://shop.example", None),
            ("https://.shop.example", None),
            ("https://shop..example", None),
            ("https://*/path", Some("https://*")),
            ("*/", Some("https://*")),
            ("https://shöp.example", None),
            ("https://[::1", None),
            ("https://[*]", None),
            ("https://[::1]/", Some("https://[::1]")),
            ("https://[0:0:0:0:0:0:0:1]", None),
            ("https://[::g]", None),
            ("**", None),
        ];
        for (text, instead) in no_origin {
            let instead = instead.map(str::to_owned);
            let error = OriginPattern::new(text).expect_err(text);
            assert_eq!(error, PatternError::NoOrigin { text: text.to_owned(), instead: instead.clone() });
            assert!(instead.is_none_or(|instead| error.to_string().ends_with(&format!("write {instead}"))), "{error}");
        }
        for text in ["https://shop.*", "https://shop.example*", "http://localhost*:3000", "https://*.*", "https://a*-."]
        {
            assert_eq!(OriginPattern::new(text), Err(PatternError::OpenEnd(text.to_owned())));
        }
        for (text, names_hosts) in
            [("*", false), ("https://*", false), ("*://*:*", false), ("https://*.a.example", true), ("http://a", true)]
        {
            assert_eq!(OriginPattern::new(text).expect("a pattern").names_hosts(), names_hosts, "{text}");
        }
    }
}
