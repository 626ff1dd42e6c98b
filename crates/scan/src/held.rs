//! What one part of a question holds of the memory for all of them.

use std::sync::Arc;

use parking_lot::Mutex;

use tracehouse_memory::{Account, OutOfMemory, Pool};

/// Memory is taken from the pool in portions of this size at least, so that small things cost little.
const PORTION_BYTES: usize = 16 << 10;

/// Memory that something takes. It is counted before it is allocated, and goes back when this is dropped.
#[derive(Debug)]
pub struct Held {
    account: Account,
    /// Taken over from others, each with what it was granted.
    others: Vec<(Account, usize)>,
    used: usize,
    /// What all accounts hold; at least what is used.
    granted: usize,
}

impl Held {
    /// Holds nothing yet.
    pub fn of(pool: &Pool) -> Self {
        Self { account: pool.account(), others: Vec::new(), used: 0, granted: 0 }
    }

    /// Counts further bytes, or none of them if there is no room.
    #[inline]
    pub fn take(&mut self, bytes: usize) -> Result<(), OutOfMemory> {
        let used = self.used.saturating_add(bytes);
        if used > self.granted {
            self.grow(used)?;
        }
        self.used = used;
        Ok(())
    }

    #[cold]
    fn grow(&mut self, used: usize) -> Result<(), OutOfMemory> {
        let missing = used - self.granted;
        let portion = missing.max(PORTION_BYTES);
        // Near the limit the last bytes count.
        let granted = if self.account.try_grow(portion).is_ok() {
            portion
        } else {
            self.account.try_grow(missing)?;
            missing
        };
        self.granted += granted;
        Ok(())
    }

    /// Counts bytes as no longer used.
    pub fn give_back(&mut self, bytes: usize) {
        self.used = self.used.saturating_sub(bytes);
        let spare = self.granted - self.used;
        if spare >= 2 * PORTION_BYTES {
            self.release(spare);
        }
    }

    fn release(&mut self, mut spare: usize) {
        self.granted -= spare;
        while let Some((account, granted)) = self.others.last_mut() {
            let part = spare.min(*granted);
            account.shrink(part);
            (*granted, spare) = (*granted - part, spare - part);
            if *granted > 0 {
                return;
            }
            self.others.pop();
        }
        self.account.shrink(spare);
    }

    /// Changes what is used; to less in any case.
    pub fn set(&mut self, bytes: usize) -> Result<(), OutOfMemory> {
        if bytes > self.used {
            return self.take(bytes - self.used);
        }
        self.give_back(self.used - bytes);
        Ok(())
    }

    /// Bytes that are counted as used.
    pub fn used(&self) -> usize {
        self.used
    }

    /// Takes over what another one holds.
    pub fn absorb(&mut self, other: Held) {
        let Held { account, others, used, granted } = other;
        let of_others: usize = others.iter().map(|(_, granted)| granted).sum();
        self.others.extend(others);
        self.others.push((account, granted - of_others));
        self.used += used;
        self.granted += granted;
    }
}

/// Memory that an answer takes until it was sent. Clones share it. It is no part of what an answer says: all are equal.
#[derive(Clone, Debug, Default)]
pub struct Reservation(Option<Arc<Mutex<Held>>>);

impl Reservation {
    /// Of what something holds.
    pub fn of(held: Held) -> Self {
        Self(Some(Arc::new(Mutex::new(held))))
    }

    /// What several hold, as one. None of them may be shared.
    pub fn together(parts: impl IntoIterator<Item = Reservation>) -> Self {
        let mut held = parts.into_iter().filter_map(Self::into_held);
        let Some(mut all) = held.next() else { return Self::default() };
        held.for_each(|other| all.absorb(other));
        Self::of(all)
    }

    /// What it holds, if nobody shares it.
    pub fn into_held(self) -> Option<Held> {
        self.0.and_then(Arc::into_inner).map(Mutex::into_inner)
    }

    /// Gives back what is more than `bytes`, once it is known what an answer really takes.
    pub fn shrink_to(&self, bytes: usize) {
        if let Some(held) = &self.0 {
            let mut held = held.lock();
            let spare = held.used().saturating_sub(bytes);
            held.give_back(spare);
        }
    }

    /// Bytes that are held.
    pub fn bytes(&self) -> usize {
        self.0.as_ref().map_or(0, |held| held.lock().used())
    }
}

impl PartialEq for Reservation {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_never_exceeds_the_pool_and_comes_back() {
        let pool = Pool::new(100_000);
        let (mut one, mut other) = (Held::of(&pool), Held::of(&pool));
        one.take(60_000).expect("there is room");
        assert!(other.take(50_000).is_err());
        assert_eq!(other.used(), 0);
        other.take(39_999).expect("the last bytes count");
        assert!(pool.bytes_taken() <= 100_000);
        one.absorb(other);
        assert_eq!(one.used(), 99_999);
        one.give_back(90_000);
        assert!(pool.bytes_taken() < 9_999 + 2 * PORTION_BYTES);
        one.set(50_000).expect("there is room again");
        drop(one);
        assert_eq!(pool.bytes_taken(), 0);
    }

    #[test]
    fn an_answer_gives_back_what_it_does_not_need() {
        let pool = Pool::new(1 << 20);
        let mut held = Held::of(&pool);
        held.take(1 << 20).expect("there is room");
        let (reservation, copy) = {
            let one = Reservation::of(held);
            (one.clone(), one)
        };
        reservation.shrink_to(1 << 18);
        assert!(pool.bytes_taken() <= (1 << 18) + 2 * PORTION_BYTES);
        drop(reservation);
        assert!(pool.bytes_taken() > 0, "a copy still holds it");
        drop(copy);
        assert_eq!(pool.bytes_taken(), 0);
    }
}
