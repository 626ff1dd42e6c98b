//! A row group that is being written, and how its columns are gathered from the batches.
//!
//! Rows stand in the order of traces, their values in batches that came in the order of time: read row by row, nearly every value is a
//! miss of the processor's caches. So batches are read one after the other, and what is found is put at its place among the rows of the
//! column, which is small enough to stay in a cache.

use tracehouse_model::{Placing, SpanBatch, StringCode};

use super::order::RowRef;
use super::write::MergedStrings;

pub(super) struct Group<'a> {
    pub(super) batches: &'a [&'a SpanBatch],
    pub(super) rows: &'a [RowRef],
    pub(super) strings: &'a mut MergedStrings,
    pub(super) by_batch: ByBatch<'a>,
    pub(super) resources: Owners,
    pub(super) scopes: Owners,
}

/// The rows in the order of batches, those of one batch in the order of the row group.
pub(super) struct ByBatch<'a> {
    batches: &'a [&'a SpanBatch],
    rows: Vec<Taken>,
}

/// A row of a batch.
#[derive(Clone, Copy)]
pub(super) struct Taken {
    pub(super) batch: u32,
    pub(super) row: u32,
    /// Where it stands in the row group.
    pub(super) position: u32,
}

/// The resources or scopes of a row group, numbered.
pub(super) struct Owners {
    /// Of each row.
    numbers: Vec<u32>,
    owners: Vec<Owner>,
}

/// A resource or scope of a batch.
#[derive(Clone, Copy)]
pub(super) struct Owner {
    pub(super) batch: usize,
    pub(super) index: usize,
}

impl<'a> Group<'a> {
    pub(super) fn new(batches: &'a [&'a SpanBatch], rows: &'a [RowRef], strings: &'a mut MergedStrings) -> Self {
        let by_batch = ByBatch::new(batches, rows);
        let resources = Owners::number(&by_batch, |batch| &batch.resource);
        let scopes = Owners::number(&by_batch, |batch| &batch.scope);
        Self { batches, rows, strings, by_batch, resources, scopes }
    }

    /// A value of each row, out of a column of the batches.
    #[inline]
    pub(super) fn gather<T: Copy + Default>(&self, value: impl Fn(&SpanBatch, usize) -> T) -> Vec<T> {
        let mut values = vec![T::default(); self.rows.len()];
        for (batch, taken) in self.by_batch.each() {
            for taken in taken {
                values[taken.position as usize] = value(batch, taken.row as usize);
            }
        }
        values
    }

    /// A string of each row, as codes of the merged table.
    #[inline]
    pub(super) fn gather_codes(&self, code: impl Fn(&SpanBatch, usize) -> StringCode) -> Vec<StringCode> {
        let mut codes = vec![0; self.rows.len()];
        for (batch, taken) in self.by_batch.each() {
            let remap = &self.strings.remaps[taken[0].batch as usize];
            for taken in taken {
                codes[taken.position as usize] = remap[code(batch, taken.row as usize) as usize];
            }
        }
        codes
    }

    /// A string of each resource or scope, as codes of the merged table, of each row.
    pub(super) fn codes_of(&self, owners: &Owners, code: impl Fn(&SpanBatch, usize) -> StringCode) -> Vec<StringCode> {
        owners.spread(|number| {
            let owner = owners.owners[number];
            self.strings.remaps[owner.batch][code(self.batches[owner.batch], owner.index) as usize]
        })
    }

    /// A value of each resource or scope, of each row.
    pub(super) fn values_of<T: Copy>(&self, owners: &Owners, value: impl Fn(&SpanBatch, usize) -> T) -> Vec<T> {
        owners.spread(|number| {
            let owner = owners.owners[number];
            value(self.batches[owner.batch], owner.index)
        })
    }

    pub(super) fn placing(&self, position: usize) -> Placing {
        let at = self.rows[position];
        self.batches[at.batch as usize].placing(at.row as usize)
    }
}

impl<'a> ByBatch<'a> {
    fn new(batches: &'a [&'a SpanBatch], rows: &[RowRef]) -> Self {
        let mut next = vec![0; batches.len() + 1];
        rows.iter().for_each(|at| next[at.batch as usize + 1] += 1);
        for batch in 1..next.len() {
            next[batch] += next[batch - 1];
        }
        let mut by_batch = vec![Taken { batch: 0, row: 0, position: 0 }; rows.len()];
        for (position, at) in (0u32..).zip(rows) {
            let place: &mut usize = &mut next[at.batch as usize];
            by_batch[*place] = Taken { batch: at.batch, row: at.row, position };
            *place += 1;
        }
        by_batch
            .chunk_by_mut(|left, right| left.batch == right.batch)
            .for_each(|taken| taken.sort_unstable_by_key(|own| own.row));
        Self { batches, rows: by_batch }
    }

    /// Each batch and what is taken of it, which is one row at least.
    pub(super) fn each(&self) -> impl Iterator<Item = (&'a SpanBatch, &[Taken])> {
        let of_batch = self.rows.chunk_by(|left, right| left.batch == right.batch);
        of_batch.map(|taken| (self.batches[taken[0].batch as usize], taken))
    }
}

impl Owners {
    fn number(by_batch: &ByBatch<'_>, of: impl Fn(&SpanBatch) -> &[u32]) -> Self {
        const UNMET: u32 = u32::MAX;
        let (mut numbers, mut owners) = (vec![0; by_batch.rows.len()], Vec::new());
        let mut of_batch = Vec::new();
        for (batch, taken) in by_batch.each() {
            let column = of(batch);
            of_batch.clear();
            for own in taken {
                let index = column[own.row as usize] as usize;
                if of_batch.len() <= index {
                    of_batch.resize(index + 1, UNMET);
                }
                if of_batch[index] == UNMET {
                    of_batch[index] = owners.len() as u32;
                    owners.push(Owner { batch: taken[0].batch as usize, index });
                }
                numbers[own.position as usize] = of_batch[index];
            }
        }
        Self { numbers, owners }
    }

    /// By number.
    pub(super) fn all(&self) -> &[Owner] {
        &self.owners
    }

    /// For each row what its resource or scope has, by the number of that.
    pub(super) fn spread<T: Copy>(&self, value: impl Fn(usize) -> T) -> Vec<T> {
        let values: Vec<T> = (0..self.owners.len()).map(value).collect();
        self.numbers.iter().map(|&number| values[number as usize]).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tracehouse_model::SpanFields;

    use super::*;

    /// A batch whose spans begin at these times, each of a resource that counts so many dropped attributes.
    fn batch(number: u32, spans: u32) -> SpanBatch {
        let mut batch = SpanBatch::new();
        let scope = batch.finish_scope(0, 0, 0, 0);
        let resources: Vec<u32> = (0..3).map(|own| batch.finish_resource(10 * number + own, 0)).collect();
        for row in 0..spans {
            let name = batch.strings.intern_str(&format!("{number}/{row}"));
            let resource = resources[(row % 3) as usize];
            let start_unix_nanos = i64::from(1000 * number + row);
            batch.finish_span(SpanFields { name, resource, scope, start_unix_nanos, ..SpanFields::default() });
        }
        batch
    }

    proptest! {
        #[test]
        fn each_value_stands_at_the_place_of_its_row(
            (sizes, rows) in proptest::collection::vec(1u32..40, 1..8).prop_flat_map(|sizes| {
                let all: Vec<RowRef> = (0u32..).zip(&sizes)
                    .flat_map(|(batch, &spans)| (0..spans).map(move |row| RowRef { batch, row })).collect();
                let count = all.len();
                (Just(sizes), proptest::sample::subsequence(all, 0..=count).prop_shuffle())
            })
        ) {
            let batches: Vec<SpanBatch> = (0u32..).zip(sizes).map(|(number, spans)| batch(number, spans)).collect();
            let batches: Vec<&SpanBatch> = batches.iter().collect();
            let mut strings = MergedStrings::of(&batches);
            let group = Group::new(&batches, &rows, &mut strings);
            let starts = group.gather(|batch, row| batch.start_unix_nanos[row]);
            let names = group.gather_codes(|batch, row| batch.name[row]);
            let dropped = group.values_of(&group.resources, |batch, own| batch.resources.dropped_attributes[own]);
            for (position, at) in rows.iter().enumerate() {
                prop_assert_eq!(starts[position], i64::from(1000 * at.batch + at.row));
                let name = format!("{}/{}", at.batch, at.row);
                prop_assert_eq!(group.strings.table.get(names[position]), &name);
                prop_assert_eq!(dropped[position], 10 * at.batch + at.row % 3);
            }
            prop_assert!(group.resources.all().len() <= 3 * batches.len());
        }
    }
}
