//! Golden corpus: `tests/corpus/*.txt`. Blocks are separated by blank lines:
//!
//! ```text
//! # comment
//! > the query, one or more lines
//! = its printed form            or        ! the rendered error, line by line
//! ```
//!
//! `UPDATE_GOLDEN=1` rewrites what follows the queries. Review the difference before committing it.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use tracehouse_traceql::{compile, parse};

/// The corpus may only grow.
const CASES_MIN: usize = 150;

#[test]
fn corpus_is_parsed_and_printed_as_recorded() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut cases = 0;
    let mut differing = Vec::new();
    for path in corpus_files() {
        let recorded = fs::read_to_string(&path).expect("a corpus file is readable text");
        let (actual, count) = rewrite(&recorded);
        cases += count;
        if actual == recorded {
            continue;
        }
        if update {
            fs::write(&path, actual).expect("the corpus directory is writable");
        } else {
            differing.push(first_difference(&path, &recorded, &actual));
        }
    }
    assert!(differing.is_empty(), "run with UPDATE_GOLDEN=1 and review:\n{}", differing.join("\n"));
    assert!(cases >= CASES_MIN, "only {cases} cases");
}

#[test]
fn printed_forms_are_stable() {
    for query in corpus_queries() {
        let Ok(parsed) = compile(&query) else { continue };
        let printed = parsed.to_string();
        let again = parse(&printed).unwrap_or_else(|error| panic!("{}", error.render(&printed)));
        assert_eq!(again, parsed, "{printed}");
        assert_eq!(again.to_string(), printed);
    }
}

/// Every prefix of every query is parsed: errors must come out, never panics, and they must render.
#[test]
fn cut_off_queries_do_not_panic() {
    for query in corpus_queries() {
        for (end, _) in query.char_indices() {
            if let Err(error) = compile(&query[..end]) {
                assert!(!error.render(&query[..end]).is_empty());
                assert!(!error.to_string().contains('\n'), "{error}");
            }
        }
    }
}

fn corpus_queries() -> impl Iterator<Item = String> {
    corpus_files().into_iter().flat_map(|path| {
        let text = fs::read_to_string(path).expect("a corpus file is readable text");
        text.split("\n\n").filter_map(query_of).collect::<Vec<_>>()
    })
}

fn corpus_files() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let mut files: Vec<PathBuf> = fs::read_dir(directory)
        .expect("the corpus directory exists")
        .map(|entry| entry.expect("a readable directory").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    files.sort();
    files
}

fn query_of(block: &str) -> Option<String> {
    let lines: Vec<&str> = block.lines().filter_map(|line| line.strip_prefix('>')).collect();
    let query: Vec<&str> = lines.iter().map(|line| line.strip_prefix(' ').unwrap_or(line)).collect();
    (!query.is_empty()).then(|| query.join("\n"))
}

fn rewrite(recorded: &str) -> (String, usize) {
    let mut blocks = Vec::new();
    let mut count = 0;
    for block in recorded.trim_end().split("\n\n") {
        let mut out = String::new();
        for line in block.lines().filter(|line| line.starts_with('#') || line.starts_with('>')) {
            let _ = writeln!(out, "{line}");
        }
        if let Some(query) = query_of(block) {
            count += 1;
            match compile(&query) {
                Ok(parsed) => {
                    let _ = writeln!(out, "= {parsed}");
                }
                Err(error) => {
                    for line in error.render(&query).lines() {
                        let _ = writeln!(out, "! {}", line.trim_end());
                    }
                }
            }
        }
        blocks.push(out);
    }
    (blocks.join("\n"), count)
}

fn first_difference(path: &Path, recorded: &str, actual: &str) -> String {
    let lines = recorded.lines().zip(actual.lines()).enumerate();
    let differing = lines.into_iter().find(|(_, (old, new))| old != new);
    match differing {
        Some((index, (old, new))) => format!("{}:{}\n  recorded {old}\n  actual   {new}", path.display(), index + 1),
        None => format!("{}: lengths differ", path.display()),
    }
}
