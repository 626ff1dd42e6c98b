//! A bit flipped anywhere in a file: it is noticed, or it changes nothing; and what it did not hit can still be read. Errors of the
//! machine while a file is read are no damage.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use tracehouse_model::{Span, TraceId};

use super::pages::CheckedPages;
use super::sample::{ID, ROW_GROUPS, Written, is_noticed, open, read, small_batches, spans, write};
use super::{Expected, FileSource, Handles, OpenFile, Projection, column, is_damage};

/// Flips one bit of a byte while something is done.
fn with_flipped(file: &File, bytes: &[u8], at: usize, look: impl FnOnce()) {
    let flipped = bytes[at] ^ (1 << (at % 8));
    file.write_all_at(&[flipped], at as u64).expect("it is written");
    look();
    file.write_all_at(&bytes[at..=at], at as u64).expect("it is written");
}

/// Every byte of a file, all of its sections, headers, pages, indexes, its footer and its seal.
#[test]
fn a_flipped_bit_is_noticed_wherever_it_is() {
    const MAGIC_BYTES: usize = 4;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("file.parquet");
    let written = Written::new(&path, &small_batches());
    let bytes = std::fs::read(&path).expect("the file can be read");
    let file = OpenOptions::new().write(true).open(&path).expect("the file can be written");
    for at in MAGIC_BYTES..bytes.len() {
        with_flipped(&file, &bytes, at, || match open(&path, written.tail_bytes) {
            Err(error) => assert!(is_damage(&error), "byte {at}: {error}"),
            Ok(open) => {
                let in_pages = !open.verify().expect("the disk can be read").is_none();
                let in_sections = || !open.damaged_parts().expect("the disk can be read").is_empty();
                assert!(in_pages || in_sections(), "byte {at}: nobody noticed");
            }
        });
    }
}

/// A footer that damage made name another layout version, also one that is not known or had no seal, is damaged: what it says
/// is not believed, and no newer build is asked for. Whoever opens the file may know nothing of it.
#[test]
fn a_footer_that_names_another_version_is_noticed() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("file.parquet");
    let written = Written::new(&path, &small_batches());
    let bytes = std::fs::read(&path).expect("the file can be read");
    let file = OpenOptions::new().write(true).open(&path).expect("the file can be written");
    let digits: Vec<usize> =
        memchr::memmem::find_iter(&bytes, br#""version":"#).map(|at| at + br#""version":"#.len()).collect();
    assert!(!digits.is_empty(), "the layout names its version");
    let source = || FileSource::open_local(&path).expect("the file is there");
    let each = digits.iter().map(|&digit| vec![digit]).chain([digits.clone()]);
    for (places, version) in each.flat_map(|places| (b'0'..=b'9').map(move |version| (places.clone(), version))) {
        if places.iter().all(|&at| bytes[at] == version) {
            continue;
        }
        places.iter().for_each(|&at| file.write_all_at(&[version], at as u64).expect("it is written"));
        let expected = [
            Expected { file_id: Some(ID), tail_bytes: written.tail_bytes },
            Expected { file_id: Some(ID), tail_bytes: 0 },
            Expected { file_id: None, tail_bytes: written.tail_bytes },
            Expected::default(),
        ];
        for expected in expected {
            let error = OpenFile::open(source(), &expected).err().expect("it is another footer");
            assert!(is_damage(&error), "{error}");
        }
        assert!(OpenFile::open_unknown(source()).is_err());
        places.iter().for_each(|&at| file.write_all_at(&bytes[at..=at], at as u64).expect("it is written"));
    }
}

/// A byte of each header and of each page of each column, and some of the sections: whatever is read is right or an error, and the
/// rest is read as it was.
#[test]
fn what_a_flipped_bit_did_not_hit_is_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("file.parquet");
    let written = Written::new(&path, &small_batches());
    let bytes = std::fs::read(&path).expect("the file can be read");
    let file = OpenOptions::new().write(true).open(&path).expect("the file can be written");
    let whole = open(&path, written.tail_bytes).expect("it opens");
    let mut places = Vec::new();
    for (row_group, leaf) in
        (0..ROW_GROUPS).flat_map(|group| (0..whole.file.index.leaves()).map(move |leaf| (group, leaf)))
    {
        let pages = CheckedPages::new(whole.file.clone(), row_group, leaf).expect("a column");
        places.extend(pages.places().flat_map(|page| [page.offset as usize, page.offset as usize + page.bytes - 1]));
    }
    let pages_end = places.last().expect("there are pages") + 1;
    let sections = pages_end..bytes.len() - written.tail_bytes as usize;
    assert!(sections.len() > 100);
    for at in places.iter().copied().chain(sections.step_by(7)) {
        with_flipped(&file, &bytes, at, || assert!(is_noticed(&path, &written, at), "byte {at}"));
    }
}

#[test]
fn a_file_under_another_name_is_noticed() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("file.parquet");
    write(&path, &small_batches());
    let source = FileSource::open_local(&path).expect("the file is there");
    let other = Expected { file_id: Some("0123456789ab-other"), tail_bytes: 0 };
    let error = OpenFile::open(source.clone(), &other).err().expect("it is another file");
    assert!(is_damage(&error));
    assert!(error.to_string().contains(ID), "{error}");
    assert!(OpenFile::open(source, &Expected::default()).is_ok(), "whatever it is, it can be read");
}

/// Traces that begin before a page that is damaged and end after it lose what the page held, and nothing else.
#[test]
fn a_trace_with_a_hole_is_read_before_and_after_it() {
    const SPANS: u64 = 10_000;
    const SPANS_PER_TRACE: u64 = 9_000;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("file.parquet");
    let written = Written::new(&path, &[spans(0..SPANS, SPANS_PER_TRACE)]);
    let bytes = std::fs::read(&path).expect("the file can be read");
    let file = OpenOptions::new().write(true).open(&path).expect("the file can be written");
    let whole = open(&path, written.tail_bytes).expect("it opens");
    for column in ["trace_id", "span_id", "start_time", "duration_nanos"] {
        let leaf = whole.file.shape.leaves_of(column).start;
        let pages = CheckedPages::new(whole.file.clone(), 0, leaf).expect("a column");
        let pages: Vec<_> = pages.places().filter(|place| !place.is_dictionary).cloned().collect();
        assert!(pages.len() > 3, "{column} has {} pages", pages.len());
        let at = pages[1].offset as usize + pages[1].bytes / 2;
        with_flipped(&file, &bytes, at, || assert!(is_noticed(&path, &written, at), "{column}"));
    }
}

/// Too many open files, an error of the disk, a folder in the place of the file: none of it condemns a file, whoever meets it.
#[test]
fn errors_of_the_machine_are_no_damage() {
    const NO_ERROR: i32 = 0;
    const EIO: i32 = 5;
    const EMFILE: i32 = 24;
    const A_FOLDER: i32 = -1;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("file.parquet");
    let written = Written::new(&path, &small_batches());
    let (handles, fault) = (Arc::new(Handles::default()), Arc::new(AtomicI32::new(NO_ERROR)));
    let (fault_now, path_now, folder_now) = (fault.clone(), path.clone(), folder.path().to_owned());
    let source = FileSource::pooled(1, &handles, move |_| match fault_now.load(Ordering::Relaxed) {
        NO_ERROR => File::open(&path_now),
        // It can be opened, but every read fails.
        A_FOLDER => File::open(&folder_now),
        code => Err(io::Error::from_raw_os_error(code)),
    });
    let source = source.expect("it can be opened");
    let expected = Expected { file_id: Some(ID), tail_bytes: written.tail_bytes };
    let open = OpenFile::open(source.clone(), &expected).expect("it opens");
    for code in [EIO, EMFILE, A_FOLDER] {
        fault.store(code, Ordering::Relaxed);
        handles.close(1);
        let errors = [
            OpenFile::open(source.clone(), &expected).err(),
            OpenFile::open(source.clone(), &Expected::default()).err(),
            open.verify().err(),
            open.read_contents().err(),
            open.read_filter().err(),
            open.filter_may_contain(TraceId([1; 16])).err(),
            open.numbered(0, "kind").err(),
            open.parents(0).err(),
            read(&open, 0).err(),
        ];
        for (number, error) in errors.into_iter().enumerate() {
            let error = error.expect("nothing can be read");
            assert!(!is_damage(&error), "{number}: {error}");
        }
    }
    fault.store(NO_ERROR, Ordering::Relaxed);
    handles.close(1);
    assert_eq!(read(&open, 0).expect("it can be read again"), written.spans[0]);
}

/// Whoever asks only for the names of events, and how many links there are, reads nothing else of them.
#[test]
fn lists_are_read_in_part() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("file.parquet");
    let written = Written::new(&path, &small_batches());
    let bytes = std::fs::read(&path).expect("the file can be read");
    let file = OpenOptions::new().write(true).open(&path).expect("the file can be written");
    let whole = open(&path, written.tail_bytes).expect("it opens");
    let parts = [column::EVENT_NAMES, column::LINKED_TRACES].map(str::to_owned);
    let mut met = [0, 0];
    for (row_group, spans) in written.spans.iter().enumerate() {
        for list in [column::EVENTS, column::LINKS] {
            let read =
                whole.file.shape.leaves_of_all(whole.file.shape.places(parts.iter().map(String::as_str)).into_iter());
            let read: Vec<usize> = read.collect();
            for leaf in whole.file.shape.leaves_of(list).filter(|leaf| !read.contains(leaf)) {
                let pages = CheckedPages::new(whole.file.clone(), row_group, leaf).expect("a column");
                let page = pages.places().last().cloned().expect("there are pages");
                let at = page.offset as usize + page.bytes / 2;
                with_flipped(&file, &bytes, at, || {
                    let open = open(&path, written.tail_bytes).expect("it opens");
                    let rows = 0..open.rows_of(row_group);
                    assert!(open.read_rows(row_group, rows.clone(), Projection::Only(&[list.to_owned()])).is_err());
                    let found = open.read_rows(row_group, rows, Projection::Only(&parts)).expect("the parts are read");
                    for (row, span) in spans.iter().enumerate() {
                        let found = found.span(row);
                        let names =
                            |span: &Span| span.events.iter().map(|event| event.name.clone()).collect::<Vec<_>>();
                        let traces = |span: &Span| span.links.iter().map(|link| link.trace_id).collect::<Vec<_>>();
                        assert_eq!(names(&found), names(span), "row {row}, leaf {leaf}");
                        assert_eq!(traces(&found), traces(span), "row {row}, leaf {leaf}");
                        met = [met[0] + span.events.len(), met[1] + span.links.len()];
                    }
                });
            }
        }
    }
    assert!(met[0] > 0 && met[1] > 0, "there are events and links");
}
