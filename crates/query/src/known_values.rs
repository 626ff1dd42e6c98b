//! What is known of the values in files, which never change: each is read once. The oldest knowledge goes when it takes too much
//! memory.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use parquet::errors::ParquetError;
use tracehouse_scan::Part;
use tracehouse_spanfile::OpenFile;
use tracehouse_store::SpanFile;

use crate::question::Question;
use crate::request::Scope;
use crate::seen_values::Values;

/// Most values of one attribute that are remembered of a file.
const VALUES_PER_FILE_MAX: usize = 10_000;
/// What all remembered values of files may take.
const KNOWN_BYTES_MAX: usize = 16 << 20;

#[derive(Default)]
pub(crate) struct KnownValues(Mutex<Known>);

/// What of a file is asked for.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) enum Asked {
    Attribute(Scope, String),
    /// Names of services that are no texts in the file.
    OtherServices,
}

#[derive(Default)]
struct Known {
    by_file: HashMap<OfFile, Arc<FileValues>>,
    in_order: VecDeque<OfFile>,
    bytes: usize,
}

/// Path of a file (which is in a folder of its tenant), and what of it is asked for.
type OfFile = (String, Asked);

pub(crate) struct FileValues {
    pub(crate) values: Vec<(&'static str, String)>,
    /// False if there are more.
    pub(crate) complete: bool,
}

impl KnownValues {
    /// What of a file is asked for, read by a function unless it is known.
    pub(crate) fn of_file(
        &self,
        question: Question<'_>,
        file: &Arc<SpanFile>,
        asked: Asked,
        read: impl Fn(&OpenFile, &mut Values) -> Result<(), ParquetError>,
    ) -> Arc<FileValues> {
        let Question { bounds, reach, .. } = question;
        let of_file = (file.record.path.clone(), asked);
        if let Some(known) = self.0.lock().by_file.get(&of_file) {
            return known.clone();
        }
        let found = reach.attempt(file, Part::Whole, file.record.spans, |open| {
            let mut values = Values::new(VALUES_PER_FILE_MAX);
            read(open, &mut values)?;
            Ok(values)
        });
        let Some(values) = found else {
            return Arc::new(FileValues { values: Vec::new(), complete: false });
        };
        let is_cut = bounds.exceeded();
        let complete = values.has_all() && !is_cut;
        let found = Arc::new(FileValues { values: values.into_seen(), complete });
        if !is_cut {
            self.0.lock().keep(of_file, found.clone());
        }
        found
    }
}

impl Known {
    fn keep(&mut self, of_file: OfFile, values: Arc<FileValues>) {
        self.bytes += bytes_of(&of_file, &values);
        if self.by_file.insert(of_file.clone(), values.clone()).is_some() {
            self.bytes -= bytes_of(&of_file, &values);
            return;
        }
        self.in_order.push_back(of_file);
        while self.bytes > KNOWN_BYTES_MAX {
            let Some(oldest) = self.in_order.pop_front() else { break };
            if let Some(values) = self.by_file.remove(&oldest) {
                self.bytes -= bytes_of(&oldest, &values);
            }
        }
    }
}

/// About what an entry takes, with its key twice.
fn bytes_of((path, asked): &OfFile, values: &FileValues) -> usize {
    let key = match asked {
        Asked::Attribute(_, key) => key.len(),
        Asked::OtherServices => 0,
    };
    let texts: usize = values.values.iter().map(|(_, value)| value.len() + size_of::<(&str, String)>()).sum();
    2 * (path.len() + key + size_of::<OfFile>()) + texts
}
