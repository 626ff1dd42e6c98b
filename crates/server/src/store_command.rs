//! `tracehouse store`: looks after a store that no server runs on.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;

use anyhow::Context;
use serde::Serialize;
use tracehouse_catalogue::SqliteCatalogue;
use tracehouse_disk::Disk;
use tracehouse_model::{SystemClock, SystemRandomness};
use tracehouse_store::{CheckReport, FileFinding, RepairReport, check_store, repair_store};

use crate::cli::{CheckOptions, RepairOptions, StoreCommand, StoreOptions, TrustClockOptions};
use crate::config::{self, Config};
use crate::data_dir::DataDir;
use crate::plain::one_line;
use crate::{Ending, client, environment};

/// Findings of the same kind that are printed one by one; of the rest the number is.
const PRINTED_MAX: usize = 1000;

pub(crate) fn run(command: &StoreCommand) -> anyhow::Result<Ending> {
    match command {
        StoreCommand::Check(options) => check(options),
        StoreCommand::Repair(options) => repair(options),
        StoreCommand::TrustClock(options) => trust_clock(options),
    }
}

fn settings(options: &StoreOptions) -> anyhow::Result<Config> {
    Ok(config::load(&options.serve_options().layers(environment()))?.config)
}

fn take(options: &StoreOptions, to_read: bool) -> anyhow::Result<DataDir> {
    let data_dir = settings(options)?.data_dir;
    if to_read { DataDir::take_to_read(&data_dir) } else { DataDir::take_existing(&data_dir) }
}

fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting failed")?;
    runtime.block_on(work)
}

fn check(options: &CheckOptions) -> anyhow::Result<Ending> {
    let data_dir = take(&options.store, true)?;
    let mut shown = Shown::default();
    let mut progress = |done, of| shown.files(done, of);
    let work = async { Ok(check_store(&data_dir.store_paths(), options.quick, &mut progress).await?) };
    let report = block_on(work)?;
    let mut stdout = io::BufWriter::new(io::stdout().lock());
    if options.json {
        print_json(&mut stdout, &report)?;
    } else {
        print_check(&mut stdout, &report)?;
    }
    stdout.flush()?;
    Ok(if report.is_sound() { Ending::Done } else { Ending::Faults })
}

fn print_check(out: &mut impl Write, report: &CheckReport) -> io::Result<()> {
    for finding in &report.catalogue {
        writeln!(out, "catalogue: {}", one_line(finding))?;
    }
    for finding in &report.log {
        writeln!(out, "write-ahead log: {}", one_line(finding))?;
    }
    for FileFinding { path, spans, trouble } in report.findings.iter().take(PRINTED_MAX) {
        writeln!(out, "{}", one_line(&format!("{path}: {trouble} ({spans} spans)")))?;
    }
    more(out, report.findings.len())?;
    let files = report.files_whole + report.findings.len() as u64;
    writeln!(out, "{} of {files} files are whole", report.files_whole)?;
    if !report.is_sound() {
        writeln!(out, "`tracehouse store repair --dry-run` shows what can be repaired")?;
    }
    Ok(())
}

/// Says how many findings were not printed.
fn more(out: &mut impl Write, found: usize) -> io::Result<()> {
    match found.checked_sub(PRINTED_MAX) {
        Some(more) if more > 0 => writeln!(out, "… and {more} more; --json prints all"),
        _ => Ok(()),
    }
}

fn repair(options: &RepairOptions) -> anyhow::Result<Ending> {
    let data_dir = take(&options.store, options.dry_run)?;
    let wanted = tracehouse_store::RepairOptions { dry_run: options.dry_run, forget_missing: options.forget_missing };
    let (clock, randomness) = (Arc::new(SystemClock::default()), Arc::new(SystemRandomness::default()));
    let mut shown = Shown::default();
    let mut progress = |done, of| shown.files(done, of);
    let paths = data_dir.store_paths();
    let report = block_on(async {
        Ok(repair_store(&Disk::default(), &paths, wanted, clock, randomness, &mut progress).await?)
    })?;
    let mut stdout = io::BufWriter::new(io::stdout().lock());
    if options.json {
        print_json(&mut stdout, &report)?;
    } else {
        print_repair(&mut stdout, &report, options.dry_run)?;
    }
    stdout.flush()?;
    Ok(if report.left.is_empty() { Ending::Done } else { Ending::Faults })
}

fn print_repair(out: &mut impl Write, report: &RepairReport, dry_run: bool) -> io::Result<()> {
    let done = if dry_run { "would" } else { "done:" };
    for action in report.actions.iter().take(PRINTED_MAX) {
        writeln!(out, "{done} {}", one_line(&action.to_string()))?;
    }
    more(out, report.actions.len())?;
    for left in report.left.iter().take(PRINTED_MAX) {
        writeln!(out, "left as it is: {}", one_line(&format!("{}: {}", left.path, left.why)))?;
    }
    more(out, report.left.len())?;
    if report.actions.is_empty() && report.left.is_empty() {
        writeln!(out, "nothing has to be done")?;
    }
    Ok(())
}

fn trust_clock(options: &TrustClockOptions) -> anyhow::Result<Ending> {
    let mut stdout = io::stdout().lock();
    if let Some(server) = options.server() {
        let troubles = client::trust_clock(&server)?;
        writeln!(stdout, "the server trusts its machine's clock from now on")?;
        for trouble in troubles {
            writeln!(stdout, "still: {trouble}")?;
        }
        return Ok(Ending::Done);
    }
    let settings = settings(&options.store)?;
    let data_dir =
        DataDir::take_existing(&settings.data_dir).context("for a running server, give its address with --url")?;
    block_on(async {
        let catalogue = SqliteCatalogue::open(&data_dir.store_paths().catalogue).await?;
        let clock = Arc::new(SystemClock::default());
        tracehouse_store::trust_clock(&*catalogue, clock, settings.store.retention.0).await?;
        catalogue.close().await;
        Ok(())
    })?;
    writeln!(stdout, "the store trusts the machine's clock from its next start on")?;
    Ok(Ending::Done)
}

fn print_json(out: &mut impl Write, report: &impl Serialize) -> anyhow::Result<()> {
    serde_json::to_writer_pretty(&mut *out, report)?;
    Ok(writeln!(out)?)
}

/// How far a command is, on standard error: one line that changes on a terminal, a line for each tenth elsewhere.
#[derive(Default)]
struct Shown {
    tenths: usize,
}

impl Shown {
    fn files(&mut self, done: usize, of: usize) {
        let mut stderr = io::stderr().lock();
        let tenths = (done * 10).checked_div(of).unwrap_or(10);
        // Nothing can be done if standard error is closed.
        let _ = if stderr.is_terminal() {
            write!(stderr, "\r{done} of {of} files{}", if done == of { "\n" } else { "" })
        } else if tenths != self.tenths {
            writeln!(stderr, "{done} of {of} files")
        } else {
            Ok(())
        };
        self.tenths = tenths;
    }
}
