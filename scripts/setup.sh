# What the other scripts share: where things are, and the installing of what is missing. Sourced, not run; the caller is
# in the root of the repository.

if [ -n "${CARGO_TARGET_DIR:-}" ]; then
    mkdir -p "$CARGO_TARGET_DIR"
    target_dir=$(cd "$CARGO_TARGET_DIR" && pwd)
else
    target_dir=$PWD/target
fi
# Build tools live beside what they build, so that a kept target directory keeps them too.
tools_dir=$target_dir/tools
binary=$target_dir/release/tracehouse

fail() {
    echo "error: $*" >&2
    exit 1
}

# need COMMAND PACKAGE: installs a Debian package if a command is missing.
need() {
    command -v "$1" >/dev/null && return
    install_debian_package "$1" "$2"
    command -v "$1" >/dev/null || fail "$1 is still missing after installing the package $2"
}

install_debian_package() {
    command -v apt-get >/dev/null || fail "$1 is missing; please install it"
    local as_root=()
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null || fail "$1 is missing; please install the Debian package $2 as root"
        as_root=(sudo)
    fi
    echo "installing the Debian package $2 ($1 is missing)"
    if [ -z "${apt_updated:-}" ]; then
        "${as_root[@]}" apt-get update -qq
        apt_updated=1
    fi
    DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -y -qq --no-install-recommends "$2" >/dev/null
}

# What every build needs beside a Rust toolchain, Node and npm: a C compiler, for zstd, SQLite and mimalloc.
need_build_tools() {
    command -v cargo >/dev/null || fail "cargo is missing; please install a Rust toolchain (see rust-version in Cargo.toml)"
    command -v npm >/dev/null || fail "npm is missing; please install Node and npm (see engines in ui/package.json)"
    need cc gcc
}

# The UI's npm packages, again only if package-lock.json changed.
install_ui_packages() {
    local stamp=ui/node_modules/.installed-from wanted
    wanted=$(sha256sum ui/package-lock.json)
    [ -e "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ] && return
    (cd ui && npm ci --no-audit --no-fund)
    echo "$wanted" >"$stamp"
}

# Builds the UI if anything it is made of changed: a new build means that the binary, which holds it, is built again.
build_ui() {
    local built=ui/build/index.html sources=(ui/src ui/static ui/scripts ui/package-lock.json ui/svelte.config.js ui/vite.config.js)
    if [ -e "$built" ] && [ -z "$(find "${sources[@]}" -newer "$built" -print -quit)" ]; then
        echo "the UI is up to date"
        return
    fi
    (cd ui && npm run build)
}

build_binary() {
    cargo build --release --locked -p tracehouse
}

# cargo_tool NAME VERSION [FLAG…]: builds a cargo subcommand once and leaves it in $tools_dir.
cargo_tool() {
    local name=$1 version=$2 root=$tools_dir/$1-$2
    shift 2
    if [ ! -x "$root/bin/$name" ]; then
        echo "building $name $version"
        cargo install --quiet --locked --root "$root" --target-dir "$tools_dir/build" "$@" "$name@$version"
        rm -rf "$tools_dir/build"
    fi
    export PATH=$root/bin:$PATH
}

# typos comes ready built from PyPI: building it takes longer than everything it checks.
typos_tool() {
    local version=1.52.0 root=$tools_dir/typos-1.52.0
    if [ ! -x "$root/bin/typos" ]; then
        python_environment "$root"
        "$root/bin/pip" install --quiet --disable-pip-version-check "typos==$version"
    fi
    export PATH=$root/bin:$PATH
}

# python_environment FOLDER: makes a virtual environment.
python_environment() {
    need python3 python3
    python3 -c 'import ensurepip' 2>/dev/null || install_debian_package "python3's venv" python3-venv
    python3 -m venv "$1"
}
