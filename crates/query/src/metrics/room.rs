//! The memory that a series may take.

use tracehouse_scan::Held;

/// Memory for cells, as much as there is.
#[derive(Debug)]
pub(crate) struct Room {
    held: Held,
    bytes_max: usize,
}

impl Room {
    pub(crate) fn new(held: Held, bytes_max: usize) -> Self {
        Self { held, bytes_max }
    }

    /// Takes memory before it is allocated; false if there is none.
    #[inline]
    pub(crate) fn take(&mut self, bytes: usize) -> bool {
        self.held.used().saturating_add(bytes) <= self.bytes_max && self.held.take(bytes).is_ok()
    }

    pub(crate) fn give_back(&mut self, bytes: usize) {
        self.held.give_back(bytes);
    }

    /// Room for one more entry of a list; false if there is none.
    #[inline]
    pub(crate) fn reserve_one<T>(&mut self, list: &mut Vec<T>) -> bool {
        list.len() < list.capacity() || self.grow(list, (2 * list.capacity()).max(4))
    }

    /// Room for so many entries of a list. While it grows both the old and the new list are there.
    #[cold]
    pub(crate) fn grow<T>(&mut self, list: &mut Vec<T>, capacity: usize) -> bool {
        let before = list.capacity() * size_of::<T>();
        if !self.take(capacity * size_of::<T>()) {
            return false;
        }
        list.reserve_exact(capacity - list.len());
        self.give_back(before);
        true
    }

    /// Takes over what another one holds.
    pub(crate) fn absorb(&mut self, other: Room) {
        self.held.absorb(other.held);
        self.bytes_max = self.bytes_max.saturating_add(other.bytes_max);
    }
}
