//! Memory that all queries share.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::limit::has_room_for;

/// Memory that accounts take, all together. Cheap to clone: clones share.
#[derive(Clone, Debug)]
pub struct Pool(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    bytes_max: usize,
    bytes_taken: AtomicUsize,
    /// The pool of which this one is a share.
    whole: Option<Pool>,
}

/// Why an account can't grow: nothing was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("there is no room for {wanted} further bytes in {whose}")]
pub struct OutOfMemory {
    /// Bytes that were asked for.
    pub wanted: usize,
    pub whose: Whose,
}

/// Whose memory is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// A pool of so many bytes.
    Queries { bytes_max: usize },
    /// The process: all that it does together, not only its queries.
    Process { bytes_max: usize },
}

impl std::fmt::Display for Whose {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Whose::Queries { bytes_max } => write!(formatter, "the {bytes_max} bytes for queries"),
            Whose::Process { bytes_max } => write!(formatter, "the {bytes_max} bytes of the server"),
        }
    }
}

impl Pool {
    /// A pool of so many bytes.
    pub fn new(bytes_max: usize) -> Self {
        Self(Arc::new(Shared { bytes_max, bytes_taken: AtomicUsize::new(0), whole: None }))
    }

    /// A pool whose accounts take from this one too, and together at most so many bytes.
    pub fn share(&self, bytes_max: usize) -> Self {
        Self(Arc::new(Shared { bytes_max, bytes_taken: AtomicUsize::new(0), whole: Some(self.clone()) }))
    }

    /// An account that holds nothing yet.
    pub fn account(&self) -> Account {
        Account { pool: self.clone(), bytes: 0 }
    }

    /// What all accounts may hold together.
    pub fn bytes_max(&self) -> usize {
        self.0.whole.as_ref().map_or(self.0.bytes_max, |whole| self.0.bytes_max.min(whole.bytes_max()))
    }

    /// What all accounts hold together.
    pub fn bytes_taken(&self) -> usize {
        self.0.bytes_taken.load(Ordering::Relaxed)
    }

    fn try_take(&self, bytes: usize) -> Result<(), OutOfMemory> {
        let bytes_max = self.0.bytes_max;
        let fits = |taken: usize| taken.checked_add(bytes).filter(|taken| *taken <= bytes_max);
        let taken = self.0.bytes_taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits);
        taken.map_err(|_| OutOfMemory { wanted: bytes, whose: Whose::Queries { bytes_max } })?;
        let of_whole = match &self.0.whole {
            Some(whole) => whole.try_take(bytes),
            None if has_room_for(bytes) => Ok(()),
            None => {
                let whose = Whose::Process { bytes_max: crate::limit_bytes() };
                Err(OutOfMemory { wanted: bytes, whose })
            }
        };
        if of_whole.is_err() {
            self.0.bytes_taken.fetch_sub(bytes, Ordering::Relaxed);
        }
        of_whole
    }

    fn take(&self, bytes: usize) {
        self.0.bytes_taken.fetch_add(bytes, Ordering::Relaxed);
        if let Some(whole) = &self.0.whole {
            whole.take(bytes);
        }
    }

    fn give_back(&self, bytes: usize) {
        self.0.bytes_taken.fetch_sub(bytes, Ordering::Relaxed);
        if let Some(whole) = &self.0.whole {
            whole.give_back(bytes);
        }
    }
}

/// A part of a pool; goes back when it is dropped.
#[derive(Debug)]
pub struct Account {
    pool: Pool,
    bytes: usize,
}

impl Account {
    /// Takes more bytes, before they are allocated; none of them if there is no room in the pool, or the process has
    /// allocated as much as it may.
    pub fn try_grow(&mut self, bytes: usize) -> Result<(), OutOfMemory> {
        self.pool.try_take(bytes)?;
        self.bytes += bytes;
        Ok(())
    }

    /// Counts bytes that are allocated already, even where there is no room for them: nobody else gets that room.
    pub fn grow(&mut self, bytes: usize) {
        self.pool.take(bytes);
        self.bytes += bytes;
    }

    /// Gives bytes back; at most as many as there are.
    pub fn shrink(&mut self, bytes: usize) {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        self.pool.give_back(bytes);
    }

    /// Holds so many bytes from now on, or what it held if there is no room for more.
    pub fn try_resize(&mut self, bytes: usize) -> Result<(), OutOfMemory> {
        if bytes > self.bytes {
            return self.try_grow(bytes - self.bytes);
        }
        self.shrink(self.bytes - bytes);
        Ok(())
    }

    /// What it holds.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.shrink(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_hold_no_more_than_their_pool() {
        let pool = Pool::new(100);
        let (mut first, mut second) = (pool.account(), pool.account());
        first.try_grow(60).expect("there is room");
        let refused = second.try_grow(41).expect_err("60 of 100 are taken");
        assert_eq!(refused, OutOfMemory { wanted: 41, whose: Whose::Queries { bytes_max: 100 } });
        assert_eq!((second.bytes(), pool.bytes_taken()), (0, 60));
        second.try_grow(40).expect("there is room");
        assert!(first.try_grow(1).is_err());
        assert!(first.try_grow(usize::MAX).is_err(), "sums do not wrap");
        second.shrink(1_000);
        assert_eq!((second.bytes(), pool.bytes_taken()), (0, 60));
        drop(first);
        assert_eq!(pool.bytes_taken(), 0);
    }

    #[test]
    fn a_share_takes_from_the_whole() {
        let pool = Pool::new(100);
        let share = pool.share(70);
        let (mut of_share, mut of_pool) = (share.account(), pool.account());
        of_pool.try_grow(50).expect("there is room");
        let refused = of_share.try_grow(60).expect_err("the whole has no room");
        assert_eq!(refused.whose, Whose::Queries { bytes_max: 100 });
        assert_eq!((share.bytes_taken(), pool.bytes_taken()), (0, 50));
        drop(of_pool);
        let refused = of_share.try_grow(71).expect_err("the share has no room");
        assert_eq!(refused.whose, Whose::Queries { bytes_max: 70 });
        of_share.try_resize(70).expect("there is room");
        of_share.try_resize(30).expect("less is always possible");
        assert_eq!((share.bytes_taken(), pool.bytes_taken()), (30, 30));
        of_share.grow(200);
        assert!(pool.account().try_grow(1).is_err(), "what is allocated already takes the room of others");
        drop(of_share);
        assert_eq!((share.bytes_taken(), pool.bytes_taken()), (0, 0));
        assert_eq!((pool.share(500).bytes_max(), share.bytes_max()), (100, 70));
    }

    #[test]
    fn threads_share_a_pool() {
        let pool = Pool::new(1_000);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let mut account = pool.account();
                    for _ in 0..10_000 {
                        if account.try_grow(100).is_err() {
                            account.shrink(account.bytes());
                        }
                        assert!(pool.bytes_taken() <= 1_000);
                    }
                });
            }
        });
        assert_eq!(pool.bytes_taken(), 0);
    }
}
