//! Why a server could not be asked, and what to do about it.

use std::io;

use rustls::CertificateError;

use super::http::TIMEOUT;

/// A request without a whole answer. The cause is kept as text: a broken connection is not a broken standard output.
#[derive(Debug, PartialEq, thiserror::Error)]
pub(super) enum Failure {
    #[error("{base} gave no complete response within {} s", TIMEOUT.as_secs())]
    Timeout { base: String },
    #[error("{base}: unknown host name; is --url right?")]
    UnknownHost { base: String },
    #[error("no connection to {base}; is the server running, and is --url right? ({reason})")]
    NoConnection { base: String, reason: String },
    #[error("{base} does not speak HTTP; if it speaks HTTPS, write https://")]
    NotHttp { base: String },
    #[error("{base} does not speak HTTPS; if it speaks plain HTTP, write http://")]
    NotHttps { base: String },
    #[error(
        "the certificate of {base} is not issued by a trusted authority; give the authority's certificate with --ca-file"
    )]
    UnknownAuthority { base: String },
    #[error("the certificate of {base} is for another host: {names}")]
    OtherName { base: String, names: String },
    #[error("the certificate of {base} has expired or is not valid yet, according to this machine's clock")]
    NotInForce { base: String },
    #[error(
        "the certificate of {base} is an authority's own, not a server's; have the authority issue one for the server"
    )]
    OfAuthority { base: String },
    #[error("the connection to {base} can't be encrypted ({reason})")]
    Tls { base: String, reason: String },
    #[error("the address or the tenant contains invalid characters")]
    Characters,
    #[error("the response of {base} broke off ({reason})")]
    BrokenOff { base: String, reason: String },
}

impl Failure {
    pub(super) fn of(base: &str, error: ureq::Error) -> Self {
        let base = base.to_owned();
        match error {
            ureq::Error::Timeout(_) => Self::Timeout { base },
            ureq::Error::HostNotFound => Self::UnknownHost { base },
            ureq::Error::Http(_) | ureq::Error::BadUri(_) => Self::Characters,
            ureq::Error::Protocol(_) => Self::NotHttp { base },
            ureq::Error::Rustls(error) => Self::of_tls(base, &error),
            ureq::Error::Io(error) => Self::of_io(base, &error),
            other => Self::BrokenOff { base, reason: other.to_string() },
        }
    }

    fn of_io(base: String, error: &io::Error) -> Self {
        // A failed handshake comes as an error of the stream.
        if let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            return Self::of_tls(base, error);
        }
        let reason = error.to_string();
        match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => Self::BrokenOff { base, reason },
            _ => Self::NoConnection { base, reason },
        }
    }

    fn of_tls(base: String, error: &rustls::Error) -> Self {
        use CertificateError::*;
        match error {
            rustls::Error::InvalidMessage(_) => Self::NotHttps { base },
            rustls::Error::InvalidCertificate(UnknownIssuer) => Self::UnknownAuthority { base },
            rustls::Error::InvalidCertificate(NotValidForNameContext { presented, .. }) => {
                Self::OtherName { base, names: names(presented) }
            }
            rustls::Error::InvalidCertificate(
                Expired | ExpiredContext { .. } | NotValidYet | NotValidYetContext { .. },
            ) => Self::NotInForce { base },
            rustls::Error::InvalidCertificate(Other(other)) if other.to_string() == "CaUsedAsEndEntity" => {
                Self::OfAuthority { base }
            }
            other => Self::Tls { base, reason: other.to_string() },
        }
    }
}

/// `DnsName("shop.example")` and `IpAddress(10.0.0.1)` as a person writes them.
fn names(presented: &[String]) -> String {
    let bare = |name: &String| {
        let inner = name.split_once('(').map_or(name.as_str(), |(_, inner)| inner.trim_end_matches(')'));
        inner.trim_matches('"').to_owned()
    };
    if presented.is_empty() { "none".to_owned() } else { presented.iter().map(bare).collect::<Vec<_>>().join(", ") }
}
