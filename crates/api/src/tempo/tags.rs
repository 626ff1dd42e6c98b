use std::collections::{BTreeMap, BTreeSet};

use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, Uri};
use tracehouse_model::{Caller, parse_double};
use tracehouse_query::{Among, AttributeKey, AttributeValueSeen, Listing, Scope};
use tracehouse_traceql::{Attribute, AttributeScope};

use super::form::respond;
use super::intrinsics::{INTRINSICS, Values, values_of};
use super::logfmt::unquoted;
use super::shared::{Found, parameters, seconds_range, time_range_seconds};
use super::values::float_text;
use crate::params::{Parameters, TagValuesPath};
use crate::problem::Problem;
use crate::proto::tempopb::{
    SearchTagValuesRequest, SearchTagValuesResponse, SearchTagValuesV2Response, SearchTagsRequest, SearchTagsResponse,
    SearchTagsV2Response, SearchTagsV2Scope, TagValue,
};
use crate::scope::{parse_scope, scope_name};
use crate::state::ApiState;

const ITEMS_DEFAULT: usize = 1000;
const ITEMS_MAX: usize = 10_000;

/// What the first version of the interface takes for fields and not for attributes.
const FIELDS_OF_FIRST_VERSION: [&str; 3] = ["name", "root.name", "root.service.name"];

/// Which tags are asked for.
#[derive(Clone, Copy)]
pub(super) enum Wanted {
    All,
    Intrinsic,
    /// `None`: those of all scopes.
    Attributes(Option<Scope>),
}

/// As HTTP and gRPC ask for the names of tags.
pub(super) struct NamesAsked {
    wanted: Wanted,
    among: Among,
    /// Of each scope.
    limit: usize,
}

/// As HTTP and gRPC ask for the values of a tag.
pub(super) struct ValuesAsked {
    tag: String,
    among: Among,
    limit: usize,
    is_first_version: bool,
}

impl NamesAsked {
    fn of(uri: &Uri) -> Result<Self, Problem> {
        let parameters = parameters(uri)?;
        let among = time_range_seconds(&parameters)?.among(parameters.text("q")?);
        Ok(Self { limit: limit(&parameters)?, among, wanted: wanted(parameters.text("scope")?)? })
    }

    pub(super) fn of_message(asked: &SearchTagsRequest) -> Result<Self, Problem> {
        let among = seconds_range(Some(asked.start), Some(asked.end))?.among(Some(&asked.query));
        let scope = Some(asked.scope.as_str()).filter(|scope| !scope.is_empty());
        Ok(Self { limit: bounded(asked.max_tags_per_scope as usize), among, wanted: wanted(scope)? })
    }

    /// The first version of the interface lists intrinsics only if asked for them.
    pub(super) fn of_first_version(self) -> Self {
        let wanted = match self.wanted {
            Wanted::All => Wanted::Attributes(None),
            wanted => wanted,
        };
        Self { wanted, ..self }
    }
}

impl ValuesAsked {
    fn of(tag: String, uri: &Uri) -> Result<Self, Problem> {
        let parameters = parameters(uri)?;
        let among = time_range_seconds(&parameters)?.among(parameters.text("q")?);
        Ok(Self { tag, among, limit: limit(&parameters)?, is_first_version: false })
    }

    pub(super) fn of_message(asked: SearchTagValuesRequest) -> Result<Self, Problem> {
        let among = seconds_range(Some(asked.start), Some(asked.end))?.among(Some(&asked.query));
        let limit = bounded(asked.max_tag_values as usize);
        Ok(Self { tag: asked.tag_name, among, limit, is_first_version: false })
    }

    /// To the first version of the interface a tag is an attribute, wherever it stands, unless only a field has its name.
    pub(super) fn of_first_version(self) -> Self {
        Self { is_first_version: true, ..self }
    }
}

fn wanted(scope: Option<&str>) -> Result<Wanted, Problem> {
    let expected = "one of span, resource, instrumentation, event, link, intrinsic";
    match scope {
        None | Some("none" | "all") => Ok(Wanted::All),
        Some("intrinsic") => Ok(Wanted::Intrinsic),
        Some(scope) => {
            let known = parse_scope(scope).map(|scope| Wanted::Attributes(Some(scope)));
            known.ok_or_else(|| Problem::parameter("scope", scope, expected))
        }
    }
}

fn limit(parameters: &Parameters) -> Result<usize, Problem> {
    Ok(bounded(parameters.count("limit", 0, 0..=usize::MAX)?))
}

/// As in Tempo, 0 is as good as no limit.
fn bounded(limit: usize) -> usize {
    if limit == 0 { ITEMS_DEFAULT } else { limit.min(ITEMS_MAX) }
}

pub(super) async fn names_v1(
    State(state): State<ApiState>,
    caller: Caller,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Problem> {
    let found = names(&state, &caller, NamesAsked::of(&uri)?.of_first_version()).await?.map(without_scopes);
    respond(&state, &headers, found.answer.tag_names.len(), found).await
}

pub(super) async fn names_v2(
    State(state): State<ApiState>,
    caller: Caller,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Problem> {
    let found = names(&state, &caller, NamesAsked::of(&uri)?).await?;
    let items = found.answer.scopes.iter().map(|scope| scope.tags.len()).sum();
    respond(&state, &headers, items, found).await
}

/// The answer of the first version of the interface.
pub(super) fn without_scopes(found: SearchTagsV2Response) -> SearchTagsResponse {
    let names: BTreeSet<String> = found.scopes.into_iter().flat_map(|scope| scope.tags).collect();
    SearchTagsResponse { tag_names: names.into_iter().collect() }
}

pub(super) async fn names(
    state: &ApiState,
    caller: &Caller,
    asked: NamesAsked,
) -> Result<Found<SearchTagsV2Response>, Problem> {
    let NamesAsked { wanted, among, limit } = asked;
    let scope = match wanted {
        Wanted::All => Some(None),
        Wanted::Attributes(scope) => Some(scope),
        Wanted::Intrinsic => None,
    };
    let seen = match scope {
        Some(scope) => state.answers.attribute_keys(caller, scope, &among).await?,
        None => Listing { items: Vec::new(), complete: true, partial_reason: None },
    };
    let unread = seen.partial_reason.clone();
    let (mut scopes, complete) = by_scope(seen, limit);
    let count = scopes.iter().map(|scope| scope.tags.len()).sum();
    if matches!(wanted, Wanted::All | Wanted::Intrinsic) {
        let tags = INTRINSICS.iter().map(|(name, _)| (*name).to_owned()).collect();
        scopes.push(SearchTagsV2Scope { name: "intrinsic".to_owned(), tags });
    }
    Ok(Found {
        answer: SearchTagsV2Response { scopes },
        partial_reason: unread.or(cut_reason(complete, count, "names")),
    })
}

/// At most `limit` tags of each scope, and whether these are all.
fn by_scope(seen: Listing<AttributeKey>, limit: usize) -> (Vec<SearchTagsV2Scope>, bool) {
    let mut complete = seen.complete;
    let mut scopes: BTreeMap<Scope, BTreeSet<String>> = BTreeMap::new();
    for AttributeKey { scope, key } in seen.items {
        let tags = scopes.entry(scope).or_default();
        if tags.len() < limit {
            tags.insert(key);
        } else {
            complete &= tags.contains(&key);
        }
    }
    let of_scope = |(scope, tags): (Scope, BTreeSet<String>)| SearchTagsV2Scope {
        name: scope_name(scope).to_owned(),
        tags: tags.into_iter().collect(),
    };
    (scopes.into_iter().map(of_scope).collect(), complete)
}

fn cut_reason(complete: bool, count: usize, what: &str) -> Option<String> {
    (!complete).then(|| format!("the first {count} of more {what}"))
}

pub(super) async fn values_v1(
    State(state): State<ApiState>,
    caller: Caller,
    TagValuesPath(tag): TagValuesPath,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Problem> {
    let asked = ValuesAsked::of(tag, &uri)?.of_first_version();
    let found = values(&state, &caller, asked).await?.map(without_types);
    respond(&state, &headers, found.answer.tag_values.len(), found).await
}

pub(super) async fn values_v2(
    State(state): State<ApiState>,
    caller: Caller,
    TagValuesPath(tag): TagValuesPath,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Problem> {
    let found = values(&state, &caller, ValuesAsked::of(tag, &uri)?).await?;
    respond(&state, &headers, found.answer.tag_values.len(), found).await
}

/// The answer of the first version of the interface. Without its type a value may be there twice, as a text and as a
/// number.
pub(super) fn without_types(found: SearchTagValuesV2Response) -> SearchTagValuesResponse {
    let texts: BTreeSet<String> = found.tag_values.into_iter().map(|seen| seen.value).collect();
    SearchTagValuesResponse { tag_values: texts.into_iter().collect() }
}

/// The values of an intrinsic or of an attribute.
pub(super) async fn values(
    state: &ApiState,
    caller: &Caller,
    asked: ValuesAsked,
) -> Result<Found<SearchTagValuesV2Response>, Problem> {
    let mut found = seen(state, caller, &asked).await?;
    let limit = asked.limit;
    found.items.retain(can_be_asked_for);
    let complete = found.complete && found.items.len() <= limit;
    let unread = found.partial_reason;
    let value =
        |seen: AttributeValueSeen| TagValue { value: text_of(&seen), r#type: type_name(seen.value_type).to_owned() };
    let tag_values: Vec<TagValue> = found.items.into_iter().take(limit).map(value).collect();
    let partial_reason = unread.or(cut_reason(complete, tag_values.len(), "values"));
    Ok(Found { answer: SearchTagValuesV2Response { tag_values }, partial_reason })
}

async fn seen(state: &ApiState, caller: &Caller, asked: &ValuesAsked) -> Result<Listing<AttributeValueSeen>, Problem> {
    let ValuesAsked { tag, among, limit, is_first_version } = asked;
    let answers = &state.answers;
    let (scope, key) = scope_and_key(tag);
    let own = if scope.is_none() { values_of(&key) } else { None };
    if *is_first_version && scope.is_none() && !FIELDS_OF_FIRST_VERSION.contains(&&*key) {
        let mut found = answers.attribute_values(caller, Scope::Either, &key, *limit, among).await?;
        let of_scopes = answers.attribute_values(caller, Scope::Instrumentation, &key, *limit, among).await?;
        found.items.extend(of_scopes.items);
        found.items.sort_unstable();
        found.items.dedup();
        found.complete &= of_scopes.complete;
        found.partial_reason = found.partial_reason.or(of_scopes.partial_reason);
        if own.is_none() || !found.items.is_empty() {
            return Ok(found);
        }
    }
    Ok(match own {
        Some(Values::NotOffered) => Listing { items: Vec::new(), complete: true, partial_reason: None },
        Some(Values::Keywords(words)) => typed("keyword", words.iter().map(|word| (*word).to_owned()), true),
        Some(Values::SpanNames) => strings(answers.operations(caller, None, among).await?),
        Some(Values::OfField(intrinsic)) => answers.field_values(caller, &intrinsic.into(), *limit, among).await?,
        None => match of_parent(tag) {
            Some(attribute) => answers.field_values(caller, &attribute.into(), *limit, among).await?,
            None => answers.attribute_values(caller, scope.unwrap_or(Scope::Either), &key, *limit, among).await?,
        },
    })
}

/// Whether a query can say the value, which no literal does of an infinite number, nor of what is none.
fn can_be_asked_for(seen: &AttributeValueSeen) -> bool {
    seen.value_type != "double" || parse_double(&seen.value).is_some_and(f64::is_finite)
}

/// As Tempo writes a value.
fn text_of(seen: &AttributeValueSeen) -> String {
    let double = if seen.value_type == "double" { parse_double(&seen.value) } else { None };
    double.map_or_else(|| seen.value.clone(), float_text)
}

/// As Tempo calls a type of values.
fn type_name(value_type: &str) -> &str {
    if value_type == "double" { "float" } else { value_type }
}

fn strings(listing: Listing<String>) -> Listing<AttributeValueSeen> {
    let typed = typed("string", listing.items.into_iter(), listing.complete);
    Listing { partial_reason: listing.partial_reason, ..typed }
}

fn typed(
    value_type: &'static str,
    values: impl Iterator<Item = String>,
    complete: bool,
) -> Listing<AttributeValueSeen> {
    let items = values.map(|value| AttributeValueSeen { value_type, value }).collect();
    Listing { items, complete, partial_reason: None }
}

/// `resource.service.name`, `.http.route`, `span."a key"`; a name without any scope is an intrinsic or, as in the first
/// version of the interface, an attribute.
fn scope_and_key(tag: &str) -> (Option<Scope>, String) {
    let (scope, key) = match tag.split_once('.') {
        Some(("", key)) => (Some(Scope::Either), key),
        Some((scope, key)) => match parse_scope(scope) {
            Some(scope) => (Some(scope), key),
            None => (None, tag),
        },
        None => (None, tag),
    };
    (scope, unquoted(key).unwrap_or_else(|| key.to_owned()))
}

/// `parent.level`, `parent.span.level`: an attribute of the parent of a span.
fn of_parent(tag: &str) -> Option<Attribute> {
    let (scope, name) = scope_and_key(tag.strip_prefix("parent.")?);
    let scope = match scope {
        None | Some(Scope::Either) => AttributeScope::Any,
        Some(Scope::Span) => AttributeScope::Span,
        Some(Scope::Resource) => AttributeScope::Resource,
        Some(_) => return None,
    };
    Some(Attribute { of_parent: true, scope, name })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_have_scopes() {
        let table = [
            ("service.name", None, "service.name"),
            (".service.name", Some(Scope::Either), "service.name"),
            ("resource.service.name", Some(Scope::Resource), "service.name"),
            ("span.http.route", Some(Scope::Span), "http.route"),
            ("event.exception.type", Some(Scope::Event), "exception.type"),
            ("span.\"a \\\"key\\\"\"", Some(Scope::Span), "a \"key\""),
            ("status", None, "status"),
            ("span:status", None, "span:status"),
        ];
        for (tag, scope, key) in table {
            assert_eq!(scope_and_key(tag), (scope, key.to_owned()), "{tag}");
        }
    }
}
