use std::collections::HashSet;

use tracehouse_server::roles::{ROLES, check};

#[test]
fn roles_start_after_what_they_depend_on() {
    let mut above = HashSet::new();
    for role in ROLES {
        for needed in role.depends_on {
            assert!(above.contains(needed), "{} depends on {needed}, which does not stand above it", role.name);
        }
        assert!(above.insert(role.name), "{} stands twice in the table", role.name);
        assert!(!role.does.is_empty());
    }
}

#[test]
fn roles_that_can_run_together() {
    let cases = [
        ("catalogue wal keeper store query gateway", ""),
        ("gateway query store keeper wal catalogue", ""),
        ("catalogue wal keeper store query", ""),
        // As a configuration of an older version names it.
        ("catalogue log keeper store query gateway", ""),
        ("catalogue wal keeper store query gatway", "no role \"gatway\""),
        ("catalogue keeper store query gateway", "store needs wal"),
        ("catalogue wal keeper store gateway", "query (answers questions"),
        ("", "catalogue"),
    ];
    for (chosen, expected) in cases {
        let chosen: Vec<String> = chosen.split_whitespace().map(str::to_owned).collect();
        match check(&chosen) {
            Ok(()) => assert_eq!(expected, "", "{chosen:?}"),
            Err(reason) => assert!(!expected.is_empty() && reason.contains(expected), "{chosen:?}: {reason}"),
        }
    }
}
