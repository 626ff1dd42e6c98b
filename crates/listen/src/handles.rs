//! How many connections a process may have, by the file handles it may have.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Handles that are kept for the store, the catalogue, queries and whatever else is no connection.
const KEPT_FOR_FILES: u64 = 512;
/// More connections than this are not worth their memory, however many handles there are.
const CONNECTIONS_MAX: u64 = 12_288;
/// Ports that share the handles.
const PORTS: u64 = 3;
/// A port has so many places in any case.
const CONNECTIONS_PER_PORT_MIN: u64 = 64;

/// Raises the limit of file handles as far as the system allows; returns what it is now. To be called once, at the start.
pub fn raise_handle_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    if limit.current < limit.maximum {
        let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            tracing::warn!(%error, "raising the limit of open files failed; there is room for fewer connections");
        }
    }
    handles()
}

fn handles() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// How many connections one port may have.
pub(crate) fn connections_per_port() -> usize {
    places(handles()) as usize
}

fn places(handles: u64) -> u64 {
    // At least half of few handles is kept.
    let kept = KEPT_FOR_FILES.max(handles / 2).min(handles);
    let for_connections = if handles / 2 > CONNECTIONS_MAX { CONNECTIONS_MAX } else { handles - kept };
    (for_connections / PORTS).max(CONNECTIONS_PER_PORT_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_have_handles_left() {
        for (handles, connections) in [(256, 64), (1024, 170), (4096, 682), (20_000, 3333), (1 << 20, 4096)] {
            assert_eq!(places(handles), connections, "{handles} handles");
        }
    }
}
