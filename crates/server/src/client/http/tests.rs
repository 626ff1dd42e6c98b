use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use tempfile::TempDir;

use super::*;

/// What a server shows and what its certificate's authority is.
struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: KeyPair,
}

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names are no wrong names");
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, key()).expect("signs"))
    }

    fn issue(&self, names: &[&str], valid_until: i32) -> Identity {
        let key = key();
        let mut params = params(names);
        params.not_after = rcgen::date_time_ymd(valid_until, 1, 1);
        let certificate = params.signed_by(&key, &self.0).expect("signs");
        Identity { chain: vec![certificate.der().clone()], key }
    }
}

fn key() -> KeyPair {
    KeyPair::generate().expect("the machine has random numbers")
}

fn params(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    CertificateParams::new(names).expect("the test's names are names")
}

/// Signed by itself, as `openssl req -x509` does it (`is_ca`) or as development servers do.
fn self_signed(is_ca: bool) -> (Identity, String) {
    let key = key();
    let mut params = params(&["127.0.0.1"]);
    params.is_ca = if is_ca { IsCa::Ca(BasicConstraints::Unconstrained) } else { IsCa::NoCa };
    let certificate = params.self_signed(&key).expect("signs");
    (Identity { chain: vec![certificate.der().clone()], key }, certificate.pem())
}

/// A folder with a file of certificates to trust.
fn trusting(pem: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("ca.pem");
    fs::write(&file, pem).expect("writes");
    (folder, file)
}

/// Answers one connection over TLS and returns where; gives it up where the handshake fails.
fn serve_tls(identity: Identity, answer: &'static str) -> u16 {
    let Identity { chain, key } = identity;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("the key is the certificate's");
    serve(move |mut stream| {
        let mut tls = ServerConnection::new(Arc::new(config)).expect("a configuration");
        if tls.complete_io(&mut stream).is_err() {
            // What the peer is to know of the failure.
            let _ = tls.write_tls(&mut stream);
            return;
        }
        exchange(StreamOwned::new(tls, stream), answer);
    })
}

fn serve_plain(answer: &'static str) -> u16 {
    serve(move |stream| exchange(stream, answer))
}

fn serve(connection: impl FnOnce(TcpStream) + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    thread::spawn(move || connection(listener.accept().expect("a connection").0));
    port
}

fn exchange(mut stream: impl Read + Write, answer: &str) {
    let mut request = [0; 4096];
    let _ = stream.read(&mut request);
    let _ = stream.write_all(answer.as_bytes());
    let _ = stream.flush();
}

fn get(scheme: &str, port: u16, ca_file: Option<PathBuf>) -> Result<Option<Vec<u8>>, String> {
    let base = format!("{scheme}://127.0.0.1:{port}");
    let client = ApiClient::new(&ServerAddress { url: base.clone(), ca_file }, None);
    client.and_then(|client| client.get("/", &[])).map_err(|error| error.to_string().replace(&base, "IT"))
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[test]
fn speaks_https_to_servers_it_trusts() {
    let (authority, other) = (Authority::new("this"), Authority::new("other"));
    let (_folder, ca_file) = trusting(&format!("{}{}", other.0.pem(), authority.0.pem()));
    let port = serve_tls(authority.issue(&["shop.example", "127.0.0.1"], 2999), OK);
    assert_eq!(get("https", port, Some(ca_file)), Ok(Some(b"ok".to_vec())));

    let (identity, pem) = self_signed(false);
    let (_folder, ca_file) = trusting(&pem);
    assert_eq!(get("https", serve_tls(identity, OK), Some(ca_file)), Ok(Some(b"ok".to_vec())));
}

#[test]
fn says_what_is_wrong_with_a_certificate() {
    let (authority, other) = (Authority::new("this"), Authority::new("other"));
    let (_folder, ca_file) = trusting(&authority.0.pem());
    let (of_authority, of_authority_pem) = self_signed(true);
    let (_other_folder, of_authority_file) = trusting(&of_authority_pem);
    let table = [
        (
            other.issue(&["127.0.0.1"], 2999),
            &ca_file,
            "the certificate of IT is not issued by a trusted authority; give the authority's certificate with --ca-file",
        ),
        (
            authority.issue(&["shop.example", "10.0.0.1"], 2999),
            &ca_file,
            "the certificate of IT is for another host: shop.example, 10.0.0.1",
        ),
        (
            authority.issue(&["127.0.0.1"], 2001),
            &ca_file,
            "the certificate of IT has expired or is not valid yet, according to this machine's clock",
        ),
        (
            of_authority,
            &of_authority_file,
            "the certificate of IT is an authority's own, not a server's; have the authority issue one for the server",
        ),
    ];
    for (identity, ca_file, expected) in table {
        assert_eq!(get("https", serve_tls(identity, OK), Some(ca_file.clone())), Err(expected.to_owned()));
    }
}

#[test]
fn says_which_protocol_a_port_speaks() {
    let authority = Authority::new("this");
    let (_folder, ca_file) = trusting(&authority.0.pem());
    let not_https = Err("IT does not speak HTTPS; if it speaks plain HTTP, write http://".to_owned());
    assert_eq!(get("https", serve_plain("HTTP/1.1 400 Bad Request\r\n\r\n"), Some(ca_file)), not_https);
    let not_http = Err("IT does not speak HTTP; if it speaks HTTPS, write https://".to_owned());
    assert_eq!(get("http", serve_tls(authority.issue(&["127.0.0.1"], 2999), OK), None), not_http);
    // As nginx and Go's servers answer.
    let answer = "HTTP/1.1 400 Bad Request\r\ncontent-length: 8\r\n\r\nTLS only";
    let refused = Err("IT answered 400 Bad Request; if it expects https://, write that".to_owned());
    assert_eq!(get("http", serve_plain(answer), None), refused);
}

#[test]
fn says_what_is_wrong_with_an_address_or_a_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let (missing, empty) = (folder.path().join("missing.pem"), folder.path().join("empty.pem"));
    fs::write(&empty, "nothing").expect("writes");
    let client = |url: &str, ca_file: Option<&PathBuf>| {
        let address = ServerAddress { url: url.to_owned(), ca_file: ca_file.cloned() };
        ApiClient::new(&address, None).err().map(|error| format!("{error:#}"))
    };
    for url in ["127.0.0.1:3200", "ftp://host", "https://", "http://a b", ""] {
        let expected = format!("--url {url:?}: write http://HOST:PORT or https://HOST:PORT");
        assert_eq!(client(url, None), Some(expected));
    }
    let expected = format!("--ca-file {}: No such file or directory (os error 2)", missing.display());
    assert_eq!(client("https://host", Some(&missing)), Some(expected));
    let expected =
        format!("--ca-file {}: no certificate in it; PEM is expected (-----BEGIN CERTIFICATE-----)", empty.display());
    assert_eq!(client("https://host", Some(&empty)), Some(expected));
    // Without encryption there is nothing to trust.
    assert_eq!(client("http://host", Some(&missing)), None);
}

#[test]
fn reads_what_a_server_answers() {
    let table = [
        (OK, Ok(Some(b"ok".to_vec()))),
        ("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", Ok(None)),
        (
            "HTTP/1.1 400 Bad Request\r\ncontent-length: 37\r\n\r\n{\"title\":\"wrong\",\"detail\":\"no query\"}",
            Err("no query"),
        ),
        ("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 16\r\n\r\n{\"title\":\"busy\"}", Err("busy")),
        (
            "HTTP/1.1 308 Permanent Redirect\r\nlocation: https://there/\r\ncontent-length: 0\r\n\r\n",
            Err("IT redirects to https://there/; give the server's own address as --url"),
        ),
        ("HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n", Err("IT answered 502 Bad Gateway")),
        ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok", Err("the response of IT broke off (Peer disconnected)")),
    ];
    for (answer, expected) in table {
        assert_eq!(get("http", serve_plain(answer), None), expected.map_err(str::to_owned), "{answer}");
    }
}

#[test]
fn escapes_parameters() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/under/", listener.local_addr().expect("an address"));
    let seen = thread::spawn(move || {
        let mut stream = listener.accept().expect("a connection").0;
        let mut request = [0; 4096];
        let count = stream.read(&mut request).expect("a request");
        stream.write_all(OK.as_bytes()).expect("answers");
        String::from_utf8_lossy(&request[..count]).lines().next().unwrap_or_default().to_owned()
    });
    let client = ApiClient::new(&ServerAddress { url, ca_file: None }, Some("a|b")).expect("an address");
    client.get("/search", &[("q", "{ a = \"ü&=+\" }"), ("limit", "20")]).expect("an answer");
    let expected = "GET /under/search?q=%7B%20a%20%3D%20%22%C3%BC%26%3D%2B%22%20%7D&limit=20 HTTP/1.1";
    assert_eq!(seen.join().expect("the server ends"), expected);
}

#[test]
fn this_machine_is_asked_without_a_proxy() {
    for (host, expected) in [
        ("localhost", true),
        ("127.0.0.1", true),
        ("127.1.2.3", true),
        ("[::1]", true),
        ("10.0.0.1", false),
        ("shop.example", false),
    ] {
        assert_eq!(is_this_machine(host), expected, "{host}");
    }
}
