//! Makes sure that there is a user interface to embed, so that `cargo build` works without Node.

#![allow(clippy::print_stdout, reason = "this is how a build script speaks to Cargo")]

use std::path::Path;

const PLACEHOLDER: &str = "<!doctype html>
<html lang=\"en\">
<head><meta charset=\"utf-8\"><title>Tracehouse</title></head>
<body>
<h1>Tracehouse</h1>
<p>The server runs, but it was built without its user interface. Build that first, then the server again:</p>
<pre>npm --prefix ui ci
npm --prefix ui run build
cargo build --release -p tracehouse-server</pre>
<p>The API needs none of this: see <a href=\"/api/v1/openapi.json\">/api/v1/openapi.json</a>.</p>
</body>
</html>
";

fn main() -> std::io::Result<()> {
    let build = Path::new("../../ui/build");
    let index = build.join("index.html");
    if !index.exists() {
        std::fs::create_dir_all(build)?;
        std::fs::write(&index, PLACEHOLDER)?;
    }
    println!("cargo::rerun-if-changed=../../ui/build");
    Ok(())
}
