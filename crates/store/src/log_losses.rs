//! What the log lost, as the catalogue remembers it until the operator has acknowledged it.
//!
//! A loss shows in the log at one start only: afterwards the log goes on in a new segment, and the positions move over what is
//! missing. So it is noted before either happens. What was acknowledged is kept as well, since a crash may leave the log as it was.

use serde::{Deserialize, Serialize};
use tracehouse_catalogue::CatalogueContents;

use tracehouse_log::{EndLost, Finding, LogFinding, LostRecords, Recovered};

use crate::objects::minute_in_words;

/// Under which the catalogue remembers [`Losses`].
pub(crate) const LOSSES_META: &str = "log-lost";
/// So many losses are remembered; of the rest, that there are some.
const LOSSES_MAX: usize = 50;
/// So many are named in a status; of the rest the number is told.
const NAMED_MAX: usize = 5;

/// What the operator does about a loss that is noted.
const ACKNOWLEDGE: &str = "to acknowledge that, stop the server and run `tracehouse store repair`";

/// What was lost.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Losses {
    noted: Vec<Loss>,
    has_more: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Loss {
    /// When it was found, in nanoseconds since the Unix epoch.
    found_at: i64,
    /// For people.
    what: String,
    /// Those that are known to be lost.
    records: Option<LostRecords>,
    /// It names a tenant.
    is_private: bool,
    is_acknowledged: bool,
}

impl Losses {
    /// `None`: it can't be read.
    pub(crate) fn parse(remembered: &str) -> Option<Self> {
        if remembered.is_empty() { Some(Self::default()) } else { serde_json::from_str(remembered).ok() }
    }

    pub(crate) fn of(contents: &CatalogueContents) -> Self {
        contents.meta.get(LOSSES_META).and_then(|text| Self::parse(text)).unwrap_or_default()
    }

    /// What the catalogue has to remember.
    pub(crate) fn to_remember(&self) -> (String, String) {
        let is_empty = self.noted.is_empty() && !self.has_more;
        let text = if is_empty {
            String::new()
        } else {
            serde_json::to_string(self).expect("numbers and text can be written")
        };
        (LOSSES_META.to_owned(), text)
    }

    /// Adds what a recovery found to be lost. What was noted before is not noted again.
    pub(crate) fn note(&mut self, recovered: &Recovered, found_at: i64) {
        for finding in &recovered.findings {
            let records = match finding {
                Finding::Damaged { record, .. } => Some(LostRecords { first: record.sequence, last: record.sequence }),
                Finding::Lost(lost) => Some(*lost),
                Finding::EndLost(end) => end.lost,
                // What of these was a record is missing by its number, or was never acknowledged.
                Finding::CutOff { .. } | Finding::Unknown { .. } => continue,
            };
            let (what, is_private) = (finding.to_string(), matches!(finding, Finding::Damaged { .. }));
            self.add(Loss { found_at, what, records, is_private, is_acknowledged: false });
        }
        self.has_more |= recovered.findings_left_out > 0;
    }

    /// Adds what a look at the log found to be missing, and takes all as acknowledged. Returns what was not before.
    pub(crate) fn acknowledge(&mut self, log: &LogFinding, found_at: i64) -> Vec<String> {
        let (is_private, is_acknowledged) = (false, false);
        for lost in &log.lost {
            self.add(Loss { found_at, what: lost.to_string(), records: Some(*lost), is_private, is_acknowledged });
        }
        if let Some(end) = log.end_lost {
            self.add(Loss { found_at, what: end.to_string(), records: end.lost, is_private, is_acknowledged });
        }
        let told = self.findings();
        self.noted.iter_mut().for_each(|loss| loss.is_acknowledged = true);
        self.has_more = false;
        told
    }

    fn add(&mut self, loss: Loss) {
        if self.is_noted(loss.records, &loss.what) {
            return;
        }
        if self.noted.len() == LOSSES_MAX {
            match self.noted.iter().position(|noted| noted.is_acknowledged) {
                Some(acknowledged) => drop(self.noted.remove(acknowledged)),
                None => {
                    self.has_more = true;
                    return;
                }
            }
        }
        self.noted.push(loss);
    }

    fn is_noted(&self, records: Option<LostRecords>, what: &str) -> bool {
        let Some(LostRecords { first, last }) = records else {
            return self.noted.iter().any(|noted| noted.what == what);
        };
        // Several may have been found one by one, and together later.
        let mut next = first;
        let holds = |noted: &LostRecords, number| (noted.first..=noted.last).contains(&number);
        while next <= last {
            let mut noted = self.noted.iter().filter_map(|noted| noted.records);
            let Some(found) = noted.find(|noted| holds(noted, next)) else { return false };
            next = found.last.saturating_add(1);
        }
        true
    }

    pub(crate) fn knows_of(&self, lost: LostRecords) -> bool {
        self.is_noted(Some(lost), "")
    }

    pub(crate) fn knows_of_end(&self, end: EndLost) -> bool {
        self.is_noted(end.lost, &end.to_string())
    }

    fn open(&self) -> impl Iterator<Item = &Loss> {
        self.noted.iter().filter(|loss| !loss.is_acknowledged)
    }

    /// How many are not acknowledged.
    pub(crate) fn count(&self) -> usize {
        self.open().count() + usize::from(self.has_more)
    }

    /// All that is not acknowledged, for the operator.
    pub(crate) fn findings(&self) -> Vec<String> {
        let tell = |loss: &Loss| format!("found at {}: {}", minute_in_words(loss.found_at), loss.what);
        let mut findings: Vec<String> = self.open().map(tell).collect();
        if self.has_more {
            findings.push("more losses of the log were found, which the server's log named".to_owned());
        }
        findings
    }

    /// The same, shorter, and without what is one tenant's business.
    pub(crate) fn troubles(&self) -> Vec<String> {
        let mut shown: Vec<&Loss> = self.open().filter(|loss| !loss.is_private).collect();
        let has_more = self.has_more || shown.len() > NAMED_MAX;
        shown.truncate(NAMED_MAX);
        let tell = |loss: &Loss| format!("found at {}: {}; {ACKNOWLEDGE}", minute_in_words(loss.found_at), loss.what);
        let mut troubles: Vec<String> = shown.into_iter().map(tell).collect();
        let damaged = self.open().filter(|loss| loss.is_private).count();
        if damaged > 0 {
            let (records, them) =
                if damaged == 1 { ("1 record".to_owned(), "it") } else { (format!("{damaged} records"), "them") };
            troubles.push(format!(
                "{records} of the log could not be read at a start: acknowledged spans in {them} that were in no file yet are \
                 lost, and no answer can say which; the server's log and `tracehouse store check` name what is known; \
                 {ACKNOWLEDGE}"
            ));
        }
        if has_more {
            troubles.push(format!("more losses of the log are named by `tracehouse store check`; {ACKNOWLEDGE}"));
        }
        troubles
    }
}
