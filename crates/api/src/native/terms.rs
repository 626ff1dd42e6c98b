//! The words that answers use, as the API's description lists them. Each list is that of the crate that decides on it, so that the
//! description can't lag behind.

use serde::Serialize;
use tracehouse_model::{AnyValue, Marks, kind, status};
use tracehouse_traceql::{Meaning, Shape, Unit};
use utoipa::openapi::{ObjectBuilder, RefOr, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

use crate::scope;

/// A text that is one of a list.
macro_rules! terms {
    ($($(#[doc = $about:literal])* $name:ident: $words:expr;)*) => {$(
        $(#[doc = $about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
        pub(crate) struct $name(&'static str);

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                let about = concat!($($about, "\n"),*).trim();
                let words = ObjectBuilder::new().schema_type(Type::String).enum_values(Some($words));
                words.description(Some(about)).into()
            }
        }

        impl ToSchema for $name {}
    )*};
}

terms! {
    /// How the operation ended, as OTLP has it.
    StatusCode: status::NAMES;
    /// What a span is to its neighbours, as OTLP has it.
    SpanKind: kind::NAMES;
    /// The type of an attribute's value.
    ValueType: AnyValue::TYPE_NAMES;
    /// What had to be mended, cut or noticed of a span.
    Mark: Marks::NAMES.map(|(_, name)| name);
    /// What an attribute belongs to.
    AttributeScope: scope::NAMES.map(|(_, name)| name);
    /// What a query answers: a search, or with time series.
    QueryKind: [SPANS, METRICS];
    /// How the series of an answer belong together: each stands for itself, is a bucket of a histogram, or is a value of an attribute in
    /// the selection or in the rest.
    SeriesShape: Shape::NAMES;
    /// What is measured: spans, spans a second, seconds, or whatever an attribute holds.
    SeriesUnit: Unit::NAMES;
}

const SPANS: &str = "spans";
const METRICS: &str = "metrics";

impl StatusCode {
    pub(crate) fn of(code: u8) -> Self {
        Self(status::name(code))
    }
}

impl SpanKind {
    pub(crate) fn of(number: u8) -> Self {
        Self(kind::name(number))
    }
}

impl ValueType {
    pub(crate) fn of(value: &AnyValue) -> Self {
        Self(value.type_name())
    }

    /// Of a name that [`AnyValue::type_name`] gave.
    pub(crate) fn named(name: &'static str) -> Self {
        Self(name)
    }
}

impl Mark {
    pub(crate) fn all_of(marks: Marks) -> Vec<Self> {
        marks.names().map(Self).collect()
    }
}

impl AttributeScope {
    pub(crate) fn of(of: tracehouse_query::Scope) -> Self {
        Self(scope::scope_name(of))
    }
}

impl QueryKind {
    pub(crate) const SPANS: Self = Self(SPANS);
    pub(crate) const METRICS: Self = Self(METRICS);
}

impl SeriesShape {
    pub(crate) fn of(meaning: Meaning) -> Self {
        Self(meaning.shape.name())
    }
}

impl SeriesUnit {
    pub(crate) fn of(unit: Unit) -> Self {
        Self(unit.name())
    }
}
