//! How a repair opens the catalogue: one that is damaged is kept aside, and made anew of what can be read of it.

use std::path::Path;
use std::sync::Arc;

use tracehouse_catalogue::{Catalogue, CatalogueContents, CatalogueError, SqliteCatalogue, rebuild};

use crate::error::OpenError;
use crate::repair_report::{Action, RepairReport};

use super::RepairOptions;
use super::imagined::ImaginedCatalogue;

/// A catalogue that a repair works on.
pub(super) struct Opened {
    pub(super) catalogue: Arc<dyn Catalogue>,
    /// What is to be closed at the end.
    pub(super) file: Option<Arc<SqliteCatalogue>>,
}

impl Opened {
    fn to_change(catalogue: Arc<SqliteCatalogue>) -> Self {
        Self { catalogue: catalogue.clone(), file: Some(catalogue) }
    }
}

/// Opens the catalogue, mended if it must be. `None`: a dry run can't see further.
pub(super) async fn open_catalogue(
    path: &Path,
    options: RepairOptions,
    report: &mut RepairReport,
) -> Result<Option<Opened>, OpenError> {
    if options.dry_run { imagine(path, report).await } else { open_to_change(path, report).await.map(Some) }
}

/// The catalogue of a dry run.
async fn imagine(path: &Path, report: &mut RepairReport) -> Result<Option<Opened>, OpenError> {
    let nothing = || {
        let catalogue = Arc::new(ImaginedCatalogue::new(CatalogueContents::default(), None));
        Ok(Some(Opened { catalogue, file: None }))
    };
    if !path.exists() {
        return nothing();
    }
    match open_and_read(path, true).await {
        Ok(file) => {
            let catalogue = Arc::new(ImaginedCatalogue::new(file.load().await?, Some(file.clone())));
            Ok(Some(Opened { catalogue, file: Some(file) }))
        }
        Err(CatalogueError::Empty { .. }) => nothing(),
        Err(CatalogueError::Damaged { finding, .. }) => {
            report.did(Action::RebuildCatalogue { finding, kept_as: None, files: 0 });
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

async fn open_to_change(path: &Path, report: &mut RepairReport) -> Result<Opened, OpenError> {
    let opened = match open_and_read(path, false).await {
        Err(CatalogueError::Damaged { finding, .. }) => rebuilt(path, finding, report).await?,
        opened => opened?,
    };
    let Err(error) = opened.full_check().await else { return Ok(Opened::to_change(opened)) };
    let CatalogueError::Damaged { finding, .. } = error else { return Err(error.into()) };
    // The rows are sound, so the indexes can be made of them.
    let mended = match opened.reindex().await {
        Ok(()) => opened.full_check().await,
        failed => failed,
    };
    if mended.is_ok() {
        report.did(Action::Reindex { finding });
        return Ok(Opened::to_change(opened));
    }
    opened.close().await;
    Ok(Opened::to_change(rebuilt(path, finding, report).await?))
}

/// Opens a catalogue that can also be read: some damage shows only then.
async fn open_and_read(path: &Path, read_only: bool) -> Result<Arc<SqliteCatalogue>, CatalogueError> {
    let catalogue = match read_only {
        true => SqliteCatalogue::open_read_only(path).await?,
        false => SqliteCatalogue::open(path).await?,
    };
    if let Err(error) = catalogue.load().await {
        catalogue.close().await;
        return Err(error);
    }
    Ok(catalogue)
}

async fn rebuilt(path: &Path, finding: String, report: &mut RepairReport) -> Result<Arc<SqliteCatalogue>, OpenError> {
    let rebuilt = rebuild(path).await?;
    report.did(Action::RebuildCatalogue { finding, kept_as: Some(rebuilt.kept_as), files: rebuilt.files });
    Ok(SqliteCatalogue::open(path).await?)
}
