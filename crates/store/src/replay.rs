//! Brings the log back into memory when the store starts, and starts it again.

use std::sync::Arc;

use tracehouse_catalogue::{CatalogueError, Commit};
use tracehouse_disk::NeededFolder;

use crate::error::OpenError;
use crate::flush_round::{Which, flush};
use crate::log_losses::Losses;
use crate::shared::Shared;
use tracehouse_log::{
    DAMAGED_FOLDER, Finding, LogMark, LogSettings, Positions, RecordAtFault, RecordKind, Recovered, SegmentedLog,
    recover,
};

impl Shared {
    /// One flush leaves what would make too many files to the next.
    fn flush_while_it_helps(&self) {
        let mut before = usize::MAX;
        while (1..before).contains(&self.state.hot_bytes()) {
            before = self.state.hot_bytes();
            let _ = flush(self, Which::Due);
        }
    }

    /// Replays what the log holds beyond the catalogue's positions, flushing as needed, and starts the log.
    /// `losses`: what it lost before.
    pub(crate) fn recover_log(
        &self,
        positions: &Positions,
        mark: Option<LogMark>,
        mut losses: Losses,
    ) -> Result<(), OpenError> {
        let disk = &self.config.disk;
        let folder = self.config.log_dir.clone();
        // A log may hold more than memory may: what could not be written before a crash, and what an older catalogue no longer
        // knows as stored.
        let flush_at = self.config.flush_bytes.min(self.config.hot_bytes_max / 2);
        let mut not_flushed_bytes = 0;
        let recovered = recover(disk, &folder, positions, mark, |batch, recovered| {
            self.state.add_hot(vec![batch]);
            let hot_bytes = self.state.hot_bytes();
            if hot_bytes.saturating_sub(not_flushed_bytes) >= flush_at {
                // A flush moves the positions over what is lost, so that is noted first. What fails has told so, and stays in
                // memory: it was there before the crash too.
                if self.note_losses(&mut losses, recovered).is_ok() {
                    self.flush_while_it_helps();
                }
                not_flushed_bytes = self.state.hot_bytes();
            }
        })?;
        self.state.advance(recovered.last_sequence);
        self.state.begin();
        tell(&recovered);
        // Before the log goes on as if nothing had been lost.
        self.note_losses(&mut losses, &recovered)?;
        metrics::gauge!("tracehouse_log_losses_noted").set(losses.count() as f64);
        let _ = self.log_troubles.set(troubles(&recovered, &losses, positions));
        self.start_log(&recovered)
    }

    /// Lets the catalogue remember what a recovery found to be lost.
    fn note_losses(&self, losses: &mut Losses, recovered: &Recovered) -> Result<(), CatalogueError> {
        let mut noted = losses.clone();
        noted.note(recovered, self.clock.now_unix_nanos());
        if noted != *losses {
            let commit = Commit { meta: vec![noted.to_remember()], ..Commit::default() };
            self.runtime.block_on(self.catalogue.commit(commit))?;
            *losses = noted;
        }
        Ok(())
    }

    fn start_log(&self, recovered: &Recovered) -> Result<(), OpenError> {
        let (state, wanted, flush_bytes) = (self.state.clone(), self.flush_wanted.clone(), self.config.flush_bytes);
        let on_durable = Box::new(move |mut batches: Vec<_>| {
            batches.retain(|batch: &tracehouse_log::DurableBatch| match batch.kind {
                RecordKind::New => true,
                // Its spans are in memory already.
                RecordKind::Carried => {
                    state.advance(batch.sequence);
                    false
                }
            });
            state.add_hot(batches);
            if state.hot_bytes() >= flush_bytes {
                wanted.ring();
            }
        });
        let settings = LogSettings {
            folder: NeededFolder::known(self.config.log_dir.clone()),
            durability: self.config.durability,
            segment_bytes_max: self.config.log_segment_bytes_max,
            disk: self.config.disk.clone(),
            clock: Arc::clone(&self.clock),
            randomness: Arc::clone(&self.randomness),
            background: self.config.background,
        };
        let log = SegmentedLog::start(settings, recovered, on_durable)?;
        self.set_log(Box::new(log));
        Ok(())
    }
}

/// What people have to know until they have acknowledged it, and copies of damaged segments until somebody has taken them away.
fn troubles(recovered: &Recovered, losses: &Losses, positions: &Positions) -> Vec<String> {
    let mut troubles = losses.troubles();
    troubles.extend(recovered.findings.iter().filter_map(|finding| cut_off(finding, positions)));
    if !recovered.copies_aside.is_empty() {
        let count = recovered.copies_aside.len();
        let bytes: u64 = recovered.copies_aside.iter().map(|(_, bytes)| bytes).sum();
        let copies = if count == 1 {
            "1 copy of a damaged segment".to_owned()
        } else {
            format!("{count} copies of damaged segments")
        };
        troubles.push(format!(
            "the folder {DAMAGED_FOLDER} of the log holds {copies}, {bytes} bytes; spans that were lost with them are told of by \
             themselves until that is acknowledged; take away what you have looked at"
        ));
    }
    troubles
}

/// What was cut off the log's end at this start and not kept, without whose it is. Crashes leave it, but damage of the disk looks alike.
fn cut_off(finding: &Finding, positions: &Positions) -> Option<String> {
    let Finding::CutOff { bytes, header: Some(record), .. } = finding else { return None };
    if !record.counts(RecordKind::New, positions) {
        return None;
    }
    let RecordAtFault { sequence, body_bytes, .. } = record;
    Some(format!(
        "at this start {bytes} bytes were cut off the log's end, the beginning of record {sequence} with {body_bytes} bytes of spans: \
         what a crash interrupted was never acknowledged, so nothing is to do after one; otherwise the disk lost it, with \
         what followed it in the last minute before the server stopped, and those spans are gone; the server's log names the tenant"
    ))
}

/// Tells the log of the server and the metrics what a recovery met.
fn tell(recovered: &Recovered) {
    metrics::counter!("tracehouse_log_cut_off_bytes_total").increment(recovered.cut_off_bytes);
    metrics::counter!("tracehouse_log_lost_records_total").increment(recovered.lost_records);
    metrics::counter!("tracehouse_log_damaged_segments_total").increment(recovered.kept_aside.len() as u64);
    for finding in &recovered.findings {
        tracing::error!("{finding}");
    }
    if recovered.findings_left_out > 0 {
        tracing::error!("{} more faults were found in the log", recovered.findings_left_out);
    }
    for path in &recovered.kept_aside {
        tracing::error!(path = %path.display(), "a segment of the log is damaged; a copy is kept here, its intact records are replayed");
    }
    if recovered.records > 0 {
        tracing::info!(records = recovered.records, spans = recovered.spans, "replayed the log");
    }
}
