//! What follows from a file's layout alone: its schema, and the Arrow types of its columns. Most files of a tenant have the
//! same layout, so this is made once for all of them.

use std::ops::Range;
use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, Field, Fields};
use parquet::arrow::{FieldLevels, ProjectionMask, parquet_to_arrow_field_levels, parquet_to_arrow_schema};
use parquet::basic::Type as Physical;
use parquet::errors::{ParquetError, Result};
use parquet::schema::types::{ColumnDescriptor, SchemaDescPtr, SchemaDescriptor};
use quick_cache::sync::Cache;
use tracehouse_model::SeededMap;

use super::damage::Damaged;
use super::layout::{LAYOUT_VERSION, LAYOUT_VERSION_MIN, Layout, column};

pub(super) struct Shape {
    pub(super) layout: Layout,
    schema: SchemaDescPtr,
    /// The top-level columns as Arrow has them by default.
    fields: Fields,
    /// By name: the place of a column. After the top-level ones, lists of which one leaf is read.
    places: SeededMap<String, usize>,
    /// The leaves of the column in each place.
    leaves: Vec<Range<usize>>,
    /// Arrow types of some columns, for readers.
    levels: Cache<Vec<u32>, Arc<FieldLevels>>,
}

/// Shapes that are kept: for layouts of several tenants, of files now and some time ago.
const SHAPES_MAX: usize = 32;
/// Choices of columns for which the types are kept, in each shape.
const LEVELS_MAX: usize = 16;

/// What a list is called of which one leaf is read: the list, and which of its leaves that is.
const PARTS_OF_LISTS: [(&str, &str, &str); 2] =
    [(column::EVENT_NAMES, column::EVENTS, "name"), (column::LINKED_TRACES, column::LINKS, "trace_id")];

/// By the layout as text.
static SHAPES: LazyLock<Cache<String, Arc<Shape>>> = LazyLock::new(|| Cache::new(SHAPES_MAX));

impl Shape {
    /// The shape of a layout, which is given as JSON.
    pub(super) fn of(layout: &str) -> Result<Arc<Self>> {
        SHAPES.get_or_insert_with(layout, || Self::make(layout).map(Arc::new))
    }

    fn make(layout: &str) -> Result<Self> {
        let layout: Layout =
            serde_json::from_str(layout).map_err(|error| Damaged::error(format!("the layout: {error}")))?;
        if !(LAYOUT_VERSION_MIN..=LAYOUT_VERSION).contains(&layout.version) {
            let version = layout.version;
            return Err(ParquetError::NYI(format!(
                "the file has layout version {version}; this build reads versions {LAYOUT_VERSION_MIN} to {LAYOUT_VERSION}"
            )));
        }
        let schema = SchemaDescriptor::new(layout.schema()?);
        let fields = parquet_to_arrow_schema(&schema, None)?.fields().clone();
        let mut leaves: Vec<Range<usize>> = Vec::with_capacity(fields.len() + PARTS_OF_LISTS.len());
        for leaf in 0..schema.num_columns() {
            match leaves.get_mut(schema.get_column_root_idx(leaf)) {
                Some(of_root) => of_root.end = leaf + 1,
                None => leaves.push(leaf..leaf + 1),
            }
        }
        let names = fields.iter().map(|field| field.name().to_owned());
        let mut places: SeededMap<String, usize> = names.zip(0..).collect();
        for (part, list, leaf_name) in PARTS_OF_LISTS {
            let is_part = |leaf: &usize| schema.column(*leaf).name() == leaf_name;
            let whole = places.get(list).map(|place| leaves[*place].clone());
            if let Some(leaf) = whole.and_then(|mut whole| whole.find(is_part)) {
                places.insert(part.to_owned(), leaves.len());
                leaves.push(leaf..leaf + 1);
            }
        }
        Ok(Self { layout, schema: Arc::new(schema), fields, places, leaves, levels: Cache::new(LEVELS_MAX) })
    }

    /// About what this takes in memory.
    pub(super) fn memory_bytes(&self) -> usize {
        /// Of a leaf in the schema, in the Arrow fields, and in what was made for choices of columns.
        const BYTES_PER_LEAF: usize = 2_000;
        self.leaves() * BYTES_PER_LEAF + size_of::<Self>()
    }

    pub(super) fn leaves(&self) -> usize {
        self.schema.num_columns()
    }

    pub(super) fn leaf(&self, leaf: usize) -> &ColumnDescriptor {
        self.schema.columns()[leaf].as_ref()
    }

    /// Whether a file with these columns has this shape.
    pub(super) fn is_that_of(&self, schema: &SchemaDescriptor) -> bool {
        let same = |(left, right): (&Arc<ColumnDescriptor>, &Arc<ColumnDescriptor>)| {
            left.path() == right.path() && left.physical_type() == right.physical_type()
        };
        self.leaves() == schema.num_columns() && self.schema.columns().iter().zip(schema.columns()).all(same)
    }

    /// The leaves of a column that has a place.
    pub(super) fn leaves_of(&self, column_name: &str) -> Range<usize> {
        self.places.get(column_name).map_or(0..0, |place| self.leaves[*place].clone())
    }

    /// The same of several, given by their places.
    pub(super) fn leaves_of_all(&self, places: impl Iterator<Item = usize>) -> impl Iterator<Item = usize> {
        places.flat_map(|place| self.leaves[place].clone())
    }

    /// The leaf of a column that is no list, map or the like.
    pub(super) fn only_leaf_of(&self, column_name: &str) -> Option<usize> {
        let leaves = self.leaves_of(column_name);
        let leaf = leaves.start;
        (leaves.len() == 1 && self.leaf(leaf).path().parts().len() == 1).then_some(leaf)
    }

    /// The type of a top-level column as Arrow has it by default.
    pub(super) fn arrow_type(&self, column_name: &str) -> Option<&DataType> {
        self.places.get(column_name).and_then(|place| self.fields.get(*place)).map(|field| field.data_type())
    }

    /// The places of columns, ascending. Names that are none are left out.
    pub(super) fn places<'a>(&self, column_names: impl Iterator<Item = &'a str>) -> Vec<usize> {
        let mut places: Vec<usize> = column_names.filter_map(|name| self.places.get(name)).copied().collect();
        places.sort_unstable();
        places.dedup();
        places
    }

    /// The names of all top-level columns, in their order.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().map(|field| field.name().as_str())
    }

    /// The places of all top-level columns.
    pub(super) fn all_places(&self) -> Range<usize> {
        0..self.fields.len()
    }

    /// The Arrow types that columns, whose places are given ascending, are read as: texts as dictionaries of the file where
    /// `as_dictionary` says so of their leaf, else as views.
    pub(super) fn levels(
        &self,
        places: impl Iterator<Item = usize>,
        as_dictionary: impl Fn(usize) -> bool,
    ) -> Result<Arc<FieldLevels>> {
        let key: Vec<u32> = places
            .map(|place| {
                let is_text = self.fields.get(place).is_some_and(|field| field.data_type() == &DataType::Utf8);
                (place as u32) << 1 | u32::from(is_text && as_dictionary(self.leaves[place].start))
            })
            .collect();
        self.levels.get_or_insert_with(&key, || self.make_levels(&key).map(Arc::new))
    }

    fn make_levels(&self, key: &[u32]) -> Result<FieldLevels> {
        let mut fields: Vec<_> = self.fields.iter().cloned().collect();
        for choice in key {
            let Some(field) = fields.get_mut((choice >> 1) as usize) else { continue };
            if field.data_type() == &DataType::Utf8 {
                let text_type = if choice & 1 == 1 {
                    DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
                } else {
                    DataType::Utf8View
                };
                *field = Arc::new(Field::new(field.name(), text_type, field.is_nullable()));
            }
        }
        let places = key.iter().map(|choice| (choice >> 1) as usize);
        let mask = ProjectionMask::leaves(&self.schema, self.leaves_of_all(places));
        parquet_to_arrow_field_levels(&self.schema, mask, Some(&fields.into()))
    }

    /// Whether a leaf holds the texts of lists or maps.
    pub(super) fn is_nested_text(&self, leaf: usize) -> bool {
        let leaf = self.leaf(leaf);
        leaf.physical_type() == Physical::BYTE_ARRAY && leaf.path().parts().len() > 1
    }
}
