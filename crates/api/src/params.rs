use std::ops::RangeInclusive;

use axum::extract::{FromRequestParts, Query};
use http::Uri;
use http::request::Parts;
use tracehouse_model::{SpanId, TraceId};
use tracehouse_query::Among;

use crate::problem::Problem;
use crate::time::{DURATION_FORMS, MOMENT_FORMS, parse_duration, parse_moment};

/// The parameters of a query string. An empty value counts as absent, as forms send empty fields.
pub(crate) struct Parameters(Vec<(String, String)>);

/// A range of time in nanoseconds since the Unix epoch, its end excluded; `None` is unbounded.
#[derive(Clone, Copy, Default, PartialEq, Debug)]
pub(crate) struct TimeRange {
    pub(crate) start_unix_nanos: Option<i64>,
    pub(crate) end_unix_nanos: Option<i64>,
}

impl Parameters {
    /// Takes the parameters in `known` and refuses others: a misspelt filter that is silently ignored gives an answer
    /// to another question.
    pub(crate) fn strict(uri: &Uri, known: &[&str]) -> Result<Self, Problem> {
        let parameters = Self::lenient(uri)?;
        let unknown = parameters.0.iter().map(|(name, _)| name.as_str()).find(|name| !known.contains(name));
        match unknown {
            None => Ok(parameters),
            Some(name) if known.is_empty() => Err(Problem::invalid_parameter(
                name,
                format!("there is no parameter {:?} here; this address takes none", shortened(name)),
            )),
            Some(name) => Err(Problem::invalid_parameter(
                name,
                format!("there is no parameter {:?} here; there are: {}", shortened(name), known.join(", ")),
            )),
        }
    }

    /// Takes any parameter, for interfaces of others, whose clients may send what we don't know.
    pub(crate) fn lenient(uri: &Uri) -> Result<Self, Problem> {
        let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri)
            .map_err(|_| Problem::invalid_query("the query string can't be read; escape its values for a URL"))?;
        Ok(Self(pairs))
    }

    /// Parameters that came in another way.
    pub(crate) fn of(pairs: Vec<(String, String)>) -> Self {
        Self(pairs)
    }

    pub(crate) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(known, value)| known == name && !value.is_empty()).map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self, name: &str) -> Result<Option<&str>, Problem> {
        let mut values = self.all(name);
        let first = values.next();
        match values.next() {
            None => Ok(first),
            Some(_) => {
                Err(Problem::invalid_parameter(name, format!("parameter `{name}` is there twice; send it once")))
            }
        }
    }

    pub(crate) fn required(&self, name: &str, expected: &str) -> Result<&str, Problem> {
        let missing =
            || Problem::invalid_parameter(name, format!("parameter `{name}` is missing; expected {expected}"));
        self.text(name)?.ok_or_else(missing)
    }

    pub(crate) fn count(&self, name: &str, default: usize, range: RangeInclusive<usize>) -> Result<usize, Problem> {
        let Some(text) = self.text(name)? else {
            return Ok(default);
        };
        let expected = || format!("a whole number from {} to {}", range.start(), range.end());
        let count = text.parse().ok().filter(|count| range.contains(count));
        count.ok_or_else(|| Problem::parameter(name, text, &expected()))
    }

    /// In nanoseconds.
    pub(crate) fn duration(&self, name: &str) -> Result<Option<i64>, Problem> {
        self.parsed(name, parse_duration, DURATION_FORMS)
    }

    /// In nanoseconds since the Unix epoch.
    pub(crate) fn moment(&self, name: &str) -> Result<Option<i64>, Problem> {
        self.parsed(name, parse_moment, MOMENT_FORMS)
    }

    /// The parameters `start` and `end`.
    pub(crate) fn time_range(&self) -> Result<TimeRange, Problem> {
        TimeRange::new(self.moment("start")?, self.moment("end")?)
    }

    /// Two durations, the first not above the second.
    pub(crate) fn duration_range(&self, min: &str, max: &str) -> Result<(Option<i64>, Option<i64>), Problem> {
        let (least, most) = (self.duration(min)?, self.duration(max)?);
        if let (Some(least), Some(most)) = (least, most)
            && least > most
        {
            return Err(Problem::invalid_parameter(min, format!("`{min}` is above `{max}`; no span fits; swap them")));
        }
        Ok((least, most))
    }

    /// `true` or `false`, which it is if absent.
    pub(crate) fn flag(&self, name: &str) -> Result<bool, Problem> {
        Ok(self.parsed(name, |text| text.parse().ok(), "true or false")?.unwrap_or(false))
    }

    /// A value read by `parse`; `expected` says for people what it takes.
    pub(crate) fn parsed<T>(
        &self,
        name: &str,
        parse: impl Fn(&str) -> Option<T>,
        expected: &str,
    ) -> Result<Option<T>, Problem> {
        let Some(text) = self.text(name)? else {
            return Ok(None);
        };
        parse(text).map(Some).ok_or_else(|| Problem::parameter(name, text, expected))
    }
}

impl TimeRange {
    pub(crate) fn new(start_unix_nanos: Option<i64>, end_unix_nanos: Option<i64>) -> Result<Self, Problem> {
        if let (Some(start), Some(end)) = (start_unix_nanos, end_unix_nanos)
            && start > end
        {
            return Err(Problem::invalid_parameter(
                "start",
                "`start` is after `end`, so no time lies between them; swap them",
            ));
        }
        Ok(Self { start_unix_nanos, end_unix_nanos })
    }

    /// The spans of this time that a query, which may be unfinished, selects.
    pub(crate) fn among(self, traceql: Option<&str>) -> Among {
        let Self { start_unix_nanos, end_unix_nanos } = self;
        Among { start_unix_nanos, end_unix_nanos, traceql: traceql.map(str::to_owned), service: None }
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(40).collect()
}

/// The ids of a path such as `/traces/{traceId}/spans/{spanId}`.
pub(crate) struct TracePath {
    pub(crate) trace_id: TraceId,
    /// [`SpanId::NONE`] if the path has none.
    pub(crate) span_id: SpanId,
}

impl<S: Send + Sync> FromRequestParts<S> for TracePath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let mut path = TracePath { trace_id: TraceId::NONE, span_id: SpanId::NONE };
        for (name, value) in path_values(parts, state).await? {
            let wrong = |detail: String| Problem::invalid_parameter(&name, detail);
            match name.as_str() {
                "traceId" => path.trace_id = value.parse().map_err(|error| wrong(format!("{error}")))?,
                "spanId" => path.span_id = value.parse().map_err(|error| wrong(format!("{error}")))?,
                _ => {}
            }
        }
        Ok(path)
    }
}

/// The one name in a path such as `/services/{service}/operations`.
pub(crate) struct NamePath(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for NamePath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let values = path_values(parts, state).await?;
        Ok(Self(values.into_iter().next().map(|(_, value)| value).unwrap_or_default()))
    }
}

/// The tag of a path such as `/search/tag/{*rest}`, whose rest is the tag and `/values`. Tags may have slashes, and not
/// every client escapes them.
pub(crate) struct TagValuesPath(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for TagValuesPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let NamePath(rest) = NamePath::from_request_parts(parts, state).await?;
        let tag = rest.strip_suffix("/values").filter(|tag| !tag.is_empty());
        let unknown = || Problem::not_found("the values of a tag are at /search/tag/TAG/values");
        tag.map(|tag| Self(tag.to_owned())).ok_or_else(unknown)
    }
}

async fn path_values<S: Send + Sync>(parts: &mut Parts, state: &S) -> Result<Vec<(String, String)>, Problem> {
    let values = axum::extract::Path::<Vec<(String, String)>>::from_request_parts(parts, state).await;
    values.map(|path| path.0).map_err(|_| Problem::not_found("the path can't be read; escape it for a URL as UTF-8"))
}
