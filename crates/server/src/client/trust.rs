//! Whose certificates an `https://` server may show.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

/// Trusts the authorities in a PEM file, or else those of this machine. As with curl and OpenSSL, `SSL_CERT_FILE` and
/// `SSL_CERT_DIR` say where the machine has them, if not in the usual places.
pub(super) fn tls_config(ca_file: Option<&Path>) -> anyhow::Result<TlsConfig> {
    let authorities = match ca_file {
        Some(file) => of_file(file)?,
        None => of_this_machine()?,
    };
    Ok(TlsConfig::builder()
        .root_certs(RootCerts::from(authorities))
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .build())
}

fn of_file(file: &Path) -> anyhow::Result<Vec<Certificate<'static>>> {
    let pem = std::fs::read(file).with_context(|| format!("--ca-file {}", file.display()))?;
    let certificate = |item| match item {
        Ok(PemItem::Certificate(certificate)) => Some(certificate),
        _ => None,
    };
    let certificates: Vec<_> = parse_pem(&pem).filter_map(certificate).collect();
    if certificates.is_empty() {
        bail!("--ca-file {}: no certificate in it; PEM is expected (-----BEGIN CERTIFICATE-----)", file.display());
    }
    Ok(certificates)
}

fn of_this_machine() -> anyhow::Result<Vec<Certificate<'static>>> {
    let found = rustls_native_certs::load_native_certs();
    if found.certs.is_empty() {
        let reason = found.errors.first().map(|error| format!(" ({error})")).unwrap_or_default();
        bail!("no certificate authorities are installed on this machine{reason}; name a file of them with --ca-file");
    }
    Ok(found.certs.iter().map(|certificate| Certificate::from_der(certificate).to_owned()).collect())
}
