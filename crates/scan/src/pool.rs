//! Memory that all questions share.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Memory that may be taken by accounts, all together. Cheap to clone: clones share.
#[derive(Clone, Debug)]
pub struct Pool(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    bytes_max: usize,
    bytes_taken: AtomicUsize,
}

/// A pool has no room for what an account asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("there is no room for {wanted} further bytes in the memory for queries")]
pub struct OutOfMemory {
    pub wanted: usize,
}

impl Pool {
    pub fn new(bytes_max: usize) -> Self {
        Self(Arc::new(Shared { bytes_max, bytes_taken: AtomicUsize::new(0) }))
    }

    /// An account that holds nothing yet.
    pub fn account(&self) -> Account {
        Account { pool: self.clone(), bytes: 0 }
    }

    /// What all accounts may hold together.
    pub fn bytes_max(&self) -> usize {
        self.0.bytes_max
    }

    /// What all accounts hold together.
    pub fn bytes_taken(&self) -> usize {
        self.0.bytes_taken.load(Ordering::Relaxed)
    }
}

/// A part of a pool; goes back when it is dropped.
#[derive(Debug)]
pub struct Account {
    pool: Pool,
    bytes: usize,
}

impl Account {
    /// Takes more bytes, or none of them if there is no room.
    pub fn try_grow(&mut self, bytes: usize) -> Result<(), OutOfMemory> {
        let fits = |taken: usize| taken.checked_add(bytes).filter(|taken| *taken <= self.pool.0.bytes_max);
        let taken = self.pool.0.bytes_taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits);
        taken.map_err(|_| OutOfMemory { wanted: bytes })?;
        self.bytes += bytes;
        Ok(())
    }

    /// Gives bytes back; at most as many as there are.
    pub fn shrink(&mut self, bytes: usize) {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        self.pool.0.bytes_taken.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.shrink(self.bytes);
    }
}
