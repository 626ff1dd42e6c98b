//! A disk whose steps tests watch, hold up and make fail.

use std::io;
use std::panic::Location;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};
use tracehouse_disk::{Disk, DiskFaults, DiskStep};
use tracehouse_store::StoreConfig;

use crate::world::World;

/// What a step does, and to which path: the one that it makes, in a rename.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) kind: &'static str,
    pub(crate) path: PathBuf,
}

impl Step {
    fn of(step: DiskStep<'_>) -> Self {
        let (kind, path) = match step {
            DiskStep::CreateFolder(path) => ("create folder", path),
            DiskStep::RemoveFolder(path) => ("remove folder", path),
            DiskStep::SyncFolder(path) => ("sync folder", path),
            DiskStep::CreateFile(path) => ("create file", path),
            DiskStep::Read(path) => ("read", path),
            DiskStep::Write { path, .. } | DiskStep::CutOff { path, .. } => ("write", path),
            DiskStep::SyncFile(path) => ("sync file", path),
            DiskStep::Rename { to, .. } => ("rename", to),
            DiskStep::RemoveFile(path) => ("remove file", path),
        };
        Self { kind, path: path.to_owned() }
    }

    pub(crate) fn is(&self, kind: &str, part_of_path: &str) -> bool {
        self.kind == kind && self.path.to_string_lossy().contains(part_of_path)
    }
}

type Rule = Box<dyn FnMut(&Step) -> io::Result<()> + Send>;

#[derive(Default)]
pub(crate) struct Faults {
    steps: Mutex<Vec<Step>>,
    rule: Mutex<Option<Rule>>,
    held: Mutex<Held>,
    changed: Condvar,
}

/// Steps that wait until the test lets them go.
#[derive(Default)]
struct Held {
    which: Option<(&'static str, &'static str)>,
    waiting: usize,
}

impl Faults {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    pub(crate) fn config(self: &Arc<Self>, world: &World) -> StoreConfig {
        StoreConfig { disk: Disk::with_faults(self.clone()), ..world.config() }
    }

    /// From now on the rule decides which steps fail.
    pub(crate) fn set(&self, rule: impl FnMut(&Step) -> io::Result<()> + Send + 'static) {
        *self.rule.lock() = Some(Box::new(rule));
    }

    /// Makes steps of a kind fail whose path has a part.
    pub(crate) fn fail(&self, kind: &'static str, part_of_path: &'static str, error: io::ErrorKind) {
        self.set(move |step| if step.is(kind, part_of_path) { Err(error.into()) } else { Ok(()) });
    }

    pub(crate) fn clear(&self) {
        *self.rule.lock() = None;
    }

    /// The steps since the last call.
    pub(crate) fn take_steps(&self) -> Vec<Step> {
        std::mem::take(&mut *self.steps.lock())
    }

    /// Holds steps up until [`Faults::let_go`].
    pub(crate) fn hold(&self, kind: &'static str, part_of_path: &'static str) {
        self.held.lock().which = Some((kind, part_of_path));
    }

    pub(crate) fn is_holding(&self) -> bool {
        self.held.lock().waiting > 0
    }

    pub(crate) fn let_go(&self) {
        self.held.lock().which = None;
        self.changed.notify_all();
    }
}

impl DiskFaults for Faults {
    fn before(&self, step: DiskStep<'_>, _: &'static Location<'static>) -> io::Result<()> {
        let step = Step::of(step);
        self.steps.lock().push(step.clone());
        {
            let mut held = self.held.lock();
            while held.which.is_some_and(|(kind, part)| step.is(kind, part)) {
                held.waiting += 1;
                self.changed.wait(&mut held);
                held.waiting -= 1;
            }
        }
        self.rule.lock().as_mut().map_or(Ok(()), |rule| rule(&step))
    }
}

pub(crate) fn parent(path: &Path) -> &Path {
    path.parent().expect("a path inside the world")
}
