//! Looks whether catalogue, folder and log of a store that does not run are sound and fit together. Changes nothing.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use tracehouse_catalogue::{Catalogue, CatalogueContents, CatalogueError, SqliteCatalogue};
use tracehouse_model::TenantId;

use crate::error::{OpenError, chain};
use crate::folder;
use crate::log_losses::Losses;
use crate::lost::Lost;
use crate::objects::{SPOOL, with_suffix};
use crate::survey::{self, Survey};
use crate::verify::{Effort, Readable, verify};
use tracehouse_disk::{Disk, what_is_no_file, what_is_no_folder};
use tracehouse_log::{LOG_META, LogMark, Positions, SegmentFinding, inspect};
use tracehouse_spanfile::FileSource;

/// Where the parts of a store lie.
#[derive(Debug, Clone)]
pub struct StorePaths {
    pub store: PathBuf,
    pub log: PathBuf,
    pub catalogue: PathBuf,
}

/// Told how many of how many files have been read.
pub type Progress<'a> = &'a mut (dyn FnMut(usize, usize) + Send);

/// What a check found.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckReport {
    /// Files of which everything that was read is right.
    pub files_whole: u64,
    /// All others.
    pub findings: Vec<FileFinding>,
    /// What is wrong with the catalogue, and whether it and the folder belong together.
    pub catalogue: Vec<String>,
    /// What is wrong with the log.
    pub log: Vec<String>,
}

impl CheckReport {
    /// Whether nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.findings.is_empty() && self.catalogue.is_empty() && self.log.is_empty()
    }
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FileFinding {
    /// Inside the store's folder.
    pub path: String,
    /// 0 if not known.
    pub spans: u64,
    #[serde(flatten)]
    pub trouble: FileTrouble,
}

/// What is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "trouble", rename_all = "camelCase")]
pub enum FileTrouble {
    /// The catalogue lists it, and it is not there.
    Missing,
    /// The catalogue lists it, and something that is no file is in its place.
    NoFile {
        what: String,
    },
    /// It is there, and the catalogue does not list it.
    Unknown,
    /// It is there, the catalogue does not list it, and this version does not know its table.
    OtherTable {
        table: String,
    },
    /// It lies in an object store that is not configured.
    Elsewhere {
        object_store: String,
    },
    /// It was found damaged before, and its spans are not shown.
    SetAside,
    /// It lies in another tenant's folder than that of the tenant whose spans it holds.
    WrongTenant {
        tenant: String,
    },
    /// It is another file than its name says.
    WrongName {
        id: String,
    },
    Damaged(Readable),
}

impl fmt::Display for FileTrouble {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => formatter.write_str("missing"),
            Self::NoFile { what } => write!(formatter, "missing: {what} is in its place; move that away"),
            Self::Unknown => formatter.write_str("unknown to the catalogue"),
            Self::OtherTable { table } => {
                write!(formatter, "of the table {table}, which this version does not know; unknown to the catalogue")
            }
            Self::Elsewhere { object_store } => {
                write!(formatter, "in the object store {object_store}, which is not configured")
            }
            Self::SetAside => formatter.write_str("damaged and set aside"),
            Self::WrongTenant { tenant } => {
                write!(formatter, "in another tenant's folder; its spans are those of {tenant}")
            }
            Self::WrongName { id } => write!(formatter, "has the name of another file; it is {id}"),
            Self::Damaged(readable) => readable.fmt(formatter),
        }
    }
}

impl fmt::Display for Readable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => formatter.write_str("whole"),
            Self::Part { lost_spans: 0, what } => {
                write!(formatter, "damaged, all spans can be read, which takes longer: {what}")
            }
            Self::Part { lost_spans, what } => {
                write!(formatter, "damaged, {lost_spans} spans can't be read whole: {what}")
            }
            Self::Nothing { what } => write!(formatter, "damaged, nothing can be read: {what}"),
            Self::OutOfReach { error } => write!(formatter, "out of reach: {error}"),
        }
    }
}

/// So many copies of damaged segments are named; of the rest the number is told.
const COPIES_NAMED_MAX: usize = 20;

/// Checks a store; `quick`: only the ends of files are read. Blocks its thread on the disk: for a command of its own.
pub async fn check_store(paths: &StorePaths, quick: bool, progress: Progress<'_>) -> Result<CheckReport, OpenError> {
    let mut report = CheckReport::default();
    let Some(contents) = read_catalogue(&paths.catalogue, &mut report).await? else {
        report.log = findings_of_log(paths, &CatalogueContents::default())?;
        return Ok(report);
    };
    report.log = findings_of_log(paths, &contents)?;
    report.catalogue.extend(Lost::of(&contents).findings(None));
    // Without a catalogue nothing says whose the folder is.
    if paths.catalogue.exists()
        && let Err(error) = folder::claim(&paths.store, &contents)
    {
        report.catalogue.push(chain(&error));
    }
    let survey = Survey::new(contents, &paths.store, Some(survey::list(&Disk::default(), &paths.store)?));
    let spool = paths.store.join(SPOOL);
    let in_its_place = what_is_no_folder(&spool);
    report.catalogue.extend(
        in_its_place.map(|what| format!("at {} {what} stands, and no folder; move that away", spool.display())),
    );
    report.catalogue.extend(survey.unlisted.iter().map(|error| chain(error)));
    for row in &survey.damaged_rows {
        let name = row.path.as_deref().or(row.id.as_deref()).unwrap_or("a file without a name");
        report.catalogue.push(format!("the row of {name} is damaged: {}", row.reason));
    }
    check_files(paths, &survey, if quick { Effort::Footer } else { Effort::EveryPage }, progress, &mut report);
    Ok(report)
}

/// What the catalogue says: nothing if there is none, so that all files are unknown. `None`: nothing can be told by it.
async fn read_catalogue(path: &Path, report: &mut CheckReport) -> Result<Option<CatalogueContents>, OpenError> {
    if matches!(path.try_exists(), Ok(false)) {
        let advice = "`tracehouse store repair` makes one of the files that are there";
        report.catalogue.push(format!("there is no catalogue at {}; {advice}", path.display()));
        return Ok(Some(CatalogueContents::default()));
    }
    let catalogue = match SqliteCatalogue::open_read_only(path).await {
        Ok(catalogue) => catalogue,
        Err(error @ (CatalogueError::Damaged { .. } | CatalogueError::NoFile { .. })) => {
            report.catalogue.push(error.to_string());
            return Ok(None);
        }
        Err(error @ CatalogueError::Empty { .. }) => {
            report.catalogue.push(error.to_string());
            return Ok(Some(CatalogueContents::default()));
        }
        Err(error) => return Err(error.into()),
    };
    if let Err(error) = catalogue.full_check().await {
        report.catalogue.push(error.to_string());
    }
    match catalogue.load().await {
        Err(error @ CatalogueError::Damaged { .. }) => {
            report.catalogue.push(error.to_string());
            Ok(Some(CatalogueContents::default()))
        }
        contents => Ok(Some(contents?)),
    }
}

/// What is wrong with the log, as long as it is.
pub(crate) fn findings_of_log(paths: &StorePaths, contents: &CatalogueContents) -> Result<Vec<String>, OpenError> {
    let mut findings = Vec::new();
    let positions = Positions::new(&contents.log_positions, contents.are_positions_lost());
    let mark = contents.meta.get(LOG_META).and_then(|mark| LogMark::parse(mark));
    let found = inspect(&paths.log, &positions, mark)
        .map_err(|source| OpenError::Folder { path: paths.log.display().to_string(), source })?;
    for segment in &found.segments {
        if segment.damaged_bytes > 0 {
            findings.push(format!("{}: {} bytes are damaged", segment.path.display(), segment.damaged_bytes));
        }
        findings.extend((segment.torn_bytes > 0).then(|| torn(segment)));
        if let Some(fault) = &segment.fault {
            findings.push(format!("{}: it could not be read: {fault}", segment.path.display()));
        }
    }
    for (path, bytes) in found.copies.iter().take(COPIES_NAMED_MAX) {
        let path = path.display();
        findings.push(format!(
            "{path}: a copy of what a start could not read, {bytes} bytes; spans that were lost with it are told of by themselves until \
             that is acknowledged. Take it away once you have looked at it"
        ));
    }
    if let Some(more @ 1..) = found.copies.len().checked_sub(COPIES_NAMED_MAX) {
        findings.push(format!("{more} more such copies lie beside them"));
    }
    let losses = Losses::of(contents);
    let acknowledge = |finding| format!("{finding}; `tracehouse store repair` acknowledges that");
    findings.extend(losses.findings().into_iter().map(acknowledge));
    let unknown = found.lost.iter().filter(|lost| !losses.knows_of(**lost));
    findings.extend(unknown.map(ToString::to_string));
    findings.extend(found.end_lost.filter(|end| !losses.knows_of_end(*end)).map(|lost| lost.to_string()));
    Ok(findings)
}

/// The end of a segment that is no whole record.
fn torn(segment: &SegmentFinding) -> String {
    let SegmentFinding { path, torn_bytes, torn_record, is_last, .. } = segment;
    let what = match torn_record {
        Some(record) => format!("the beginning of {record}"),
        None => "no header of a record can be read in them".to_owned(),
    };
    let next = match is_last {
        true => "The next start cuts them off, and keeps a copy of what a crash does not leave",
        false => "Records follow in a later segment, so no crash left them; the next start keeps a copy",
    };
    format!(
        "{}: the last {torn_bytes} bytes are no whole record: {what}. What a crash interrupted was never acknowledged; after \
         damage of the disk spans may be lost. {next}",
        path.display()
    )
}

fn wrong_tenant(tenant: TenantId) -> FileTrouble {
    FileTrouble::WrongTenant { tenant: tenant.as_str().to_owned() }
}

fn check_files(paths: &StorePaths, survey: &Survey, effort: Effort, progress: Progress<'_>, report: &mut CheckReport) {
    let mut find =
        |path: &str, spans, trouble| report.findings.push(FileFinding { path: path.to_owned(), spans, trouble });
    for record in &survey.missing {
        let in_its_place = what_is_no_file(&paths.store.join(&record.path));
        let trouble = in_its_place.map_or(FileTrouble::Missing, |what| FileTrouble::NoFile { what: what.to_owned() });
        find(&record.path, record.spans, trouble);
    }
    let out_of_reach = || Readable::OutOfReach { error: "its folder can't be listed".into() };
    survey
        .out_of_reach
        .iter()
        .for_each(|record| find(&record.path, record.spans, FileTrouble::Damaged(out_of_reach())));
    for file in &survey.unknown {
        let path = with_suffix(&paths.store.join(&file.path), file.names.best());
        let (_, facts) = verify(&|| Ok(FileSource::open_local(&path)?), Effort::Footer);
        let its_tenant = facts.tenant.filter(|tenant| file.place.as_ref().is_some_and(|(place, _)| place != tenant));
        find(&file.path, facts.spans, its_tenant.map_or(FileTrouble::Unknown, wrong_tenant));
    }
    survey.aside.iter().for_each(|record| find(&record.path, record.spans, FileTrouble::SetAside));
    for (path, table) in &survey.of_other_tables.unknown {
        find(path, 0, FileTrouble::OtherTable { table: table.to_string() });
    }
    for record in &survey.elsewhere {
        find(&record.path, record.spans, FileTrouble::Elsewhere { object_store: record.object_store.clone() });
    }
    let mut whole = 0;
    for (number, record) in survey.live.iter().enumerate() {
        progress(number, survey.live.len());
        let suffix = survey.renamed.iter().find(|(path, _)| *path == record.path).map_or("", |(_, suffix)| suffix);
        let path = with_suffix(&paths.store.join(&record.path), suffix);
        let (readable, facts) = verify(&|| Ok(FileSource::open_local(&path)?), effort);
        match (readable, facts.id) {
            (Readable::All, Some(id)) if id != record.id => {
                find(&record.path, record.spans, FileTrouble::WrongName { id });
            }
            (Readable::All, _) => match facts.tenant {
                Some(tenant) if tenant != record.tenant => find(&record.path, record.spans, wrong_tenant(tenant)),
                _ => whole += 1,
            },
            (readable, _) => find(&record.path, record.spans, FileTrouble::Damaged(readable)),
        }
    }
    progress(survey.live.len(), survey.live.len());
    report.files_whole = whole;
}
