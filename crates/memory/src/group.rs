//! How much memory there is: for the memory group (cgroup) of the process, in both of its versions, or for the machine.

use std::fs;
use std::path::{Path, PathBuf};

/// Where the second version of memory groups is mounted, alone or beside the first.
const SECOND_VERSION: [&str; 2] = ["sys/fs/cgroup", "sys/fs/cgroup/unified"];
const FIRST_VERSION: &str = "sys/fs/cgroup/memory";
/// A hard limit, and one above which the kernel slows a process down.
const LIMITS_OF_SECOND_VERSION: [&str; 2] = ["memory.max", "memory.high"];
const LIMITS_OF_FIRST_VERSION: [&str; 1] = ["memory.limit_in_bytes"];

/// Bytes of memory that the process may have, in a system whose files are below `root`: the smallest of the machine's memory and
/// the limits of the process's group and all groups above it. `None` if the system does not tell.
///
/// In a container the path of the group may be one that only the host sees; then the container's own group is mounted as the
/// topmost one, which is read in any case.
pub fn memory_bytes_in(root: &Path) -> Option<u64> {
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let mut limits: Vec<u64> = machine_bytes(root).into_iter().collect();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else { continue };
        if controllers.is_empty() {
            for mount in SECOND_VERSION {
                limits.extend(smallest_upwards(&root.join(mount), path, &LIMITS_OF_SECOND_VERSION));
            }
        } else if controllers.split(',').any(|controller| controller == "memory") {
            limits.extend(smallest_upwards(&root.join(FIRST_VERSION), path, &LIMITS_OF_FIRST_VERSION));
        }
    }
    limits.into_iter().min()
}

fn machine_bytes(root: &Path) -> Option<u64> {
    let text = fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// The smallest limit of a group and of those above it.
fn smallest_upwards(mount: &Path, group: &str, files: &[&str]) -> Option<u64> {
    let group: PathBuf = Path::new(group.trim_start_matches('/')).components().collect();
    let limit = |folder: &Path, file: &&str| {
        // "max" is no limit, and no number.
        fs::read_to_string(mount.join(folder).join(file)).ok()?.trim().parse::<u64>().ok()
    };
    group.ancestors().flat_map(|folder| files.iter().filter_map(move |file| limit(folder, file))).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    /// What a system has, the files that say so, and what follows.
    type Case = (&'static str, &'static [(&'static str, &'static str)], Option<u64>);

    fn system(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a temporary folder");
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("in a folder")).expect("the folder can be made");
            fs::write(path, text).expect("the file can be written");
        }
        root
    }

    const MACHINE: (&str, &str) = ("proc/meminfo", "MemTotal:        8388608 kB\nMemFree: 1 kB\n");
    const FIRST: (&str, &str) = ("proc/self/cgroup", "9:name=systemd:/\n4:cpu,memory:/team/service\n0::/\n");
    const SECOND: (&str, &str) = ("proc/self/cgroup", "0::/team/service\n");

    #[test]
    fn the_smallest_limit_counts() {
        let cases: [Case; 9] = [
            ("nothing is told", &[], None),
            ("no group", &[MACHINE], Some(8 * GIB)),
            (
                "its own group",
                &[MACHINE, SECOND, ("sys/fs/cgroup/team/service/memory.max", "2147483648\n")],
                Some(2 * GIB),
            ),
            (
                "the group above",
                &[
                    MACHINE,
                    SECOND,
                    ("sys/fs/cgroup/team/service/memory.max", "max\n"),
                    ("sys/fs/cgroup/team/memory.max", "3221225472\n"),
                ],
                Some(3 * GIB),
            ),
            (
                "a limit above which it is slowed down",
                &[
                    MACHINE,
                    SECOND,
                    ("sys/fs/cgroup/team/service/memory.max", "2147483648\n"),
                    ("sys/fs/cgroup/team/service/memory.high", "1073741824\n"),
                ],
                Some(GIB),
            ),
            (
                "a path that only the host sees",
                &[MACHINE, SECOND, ("sys/fs/cgroup/memory.max", "1073741824")],
                Some(GIB),
            ),
            (
                "the first version",
                &[MACHINE, FIRST, ("sys/fs/cgroup/memory/team/service/memory.limit_in_bytes", "2147483648\n")],
                Some(2 * GIB),
            ),
            (
                "the first version without a limit",
                &[MACHINE, FIRST, ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n")],
                Some(8 * GIB),
            ),
            ("wrong texts", &[MACHINE, SECOND, ("sys/fs/cgroup/memory.max", "-5")], Some(8 * GIB)),
        ];
        for (what, files, expected) in cases {
            assert_eq!(memory_bytes_in(system(files).path()), expected, "{what}");
        }
    }
}
