use std::collections::{BTreeMap, BTreeSet};

use axum::extract::State;
use axum::response::Response;
use http::Uri;
use tracehouse_model::TenantId;
use tracehouse_query::{Among, AttributeValueSeen, Listing, Scope};

use super::intrinsics::{INTRINSICS, Values, values_of};
use super::{parameters, seconds_range, time_range_seconds};
use crate::answer::json;
use crate::params::{Parameters, TagPath};
use crate::problem::Problem;
use crate::proto::tempopb::{
    SearchTagValuesRequest, SearchTagValuesResponse, SearchTagValuesV2Response, SearchTagsRequest, SearchTagsResponse,
    SearchTagsV2Response, SearchTagsV2Scope, TagValue,
};
use crate::scope::{parse_scope, scope_name};
use crate::state::ApiState;
use crate::tenant::Tenant;

const SERVICE_NAME: &str = "service.name";
const ITEMS_DEFAULT: usize = 1000;
const ITEMS_MAX: usize = 10_000;

/// Which tags are asked for.
#[derive(Clone, Copy)]
pub(super) enum Wanted {
    All,
    Intrinsic,
    Attributes(Scope),
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
}

impl ValuesAsked {
    fn of(tag: String, uri: &Uri) -> Result<Self, Problem> {
        let parameters = parameters(uri)?;
        let among = time_range_seconds(&parameters)?.among(parameters.text("q")?);
        Ok(Self { tag, among, limit: limit(&parameters)? })
    }

    pub(super) fn of_message(asked: SearchTagValuesRequest) -> Result<Self, Problem> {
        let among = seconds_range(Some(asked.start), Some(asked.end))?.among(Some(&asked.query));
        Ok(Self { tag: asked.tag_name, among, limit: bounded(asked.max_tag_values as usize) })
    }
}

fn wanted(scope: Option<&str>) -> Result<Wanted, Problem> {
    let expected = "one of span, resource, instrumentation, event, link, intrinsic";
    match scope {
        None | Some("none" | "all") => Ok(Wanted::All),
        Some("intrinsic") => Ok(Wanted::Intrinsic),
        Some(scope) => {
            parse_scope(scope).map(Wanted::Attributes).ok_or_else(|| Problem::parameter("scope", scope, expected))
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

pub(super) async fn names_v1(State(state): State<ApiState>, tenant: Tenant, uri: Uri) -> Result<Response, Problem> {
    Ok(json(&without_scopes(names(&state, &tenant.0, NamesAsked::of(&uri)?).await?)))
}

pub(super) async fn names_v2(State(state): State<ApiState>, tenant: Tenant, uri: Uri) -> Result<Response, Problem> {
    Ok(json(&names(&state, &tenant.0, NamesAsked::of(&uri)?).await?))
}

/// The answer of the first version of the interface.
pub(super) fn without_scopes(found: SearchTagsV2Response) -> SearchTagsResponse {
    let names: BTreeSet<String> = found.scopes.into_iter().flat_map(|scope| scope.tags).collect();
    SearchTagsResponse { tag_names: names.into_iter().collect() }
}

pub(super) async fn names(
    state: &ApiState,
    tenant: &TenantId,
    asked: NamesAsked,
) -> Result<SearchTagsV2Response, Problem> {
    let NamesAsked { wanted, among, limit } = asked;
    let mut scopes: BTreeMap<Scope, BTreeSet<String>> = BTreeMap::new();
    let scope = match wanted {
        Wanted::Attributes(scope) => Some(scope),
        Wanted::All | Wanted::Intrinsic => None,
    };
    if !matches!(wanted, Wanted::Intrinsic) {
        for seen in state.answers.attribute_keys(tenant, scope, &among).await?.items {
            let tags = scopes.entry(seen.scope).or_default();
            if tags.len() < limit {
                tags.insert(seen.key);
            }
        }
    }
    let of_scope = |(scope, tags): (Scope, BTreeSet<String>)| SearchTagsV2Scope {
        name: scope_name(scope).to_owned(),
        tags: tags.into_iter().collect(),
    };
    let mut scopes: Vec<SearchTagsV2Scope> = scopes.into_iter().map(of_scope).collect();
    if matches!(wanted, Wanted::All | Wanted::Intrinsic) {
        let tags = INTRINSICS.iter().map(|(name, _)| (*name).to_owned()).collect();
        scopes.push(SearchTagsV2Scope { name: "intrinsic".to_owned(), tags });
    }
    Ok(SearchTagsV2Response { scopes })
}

pub(super) async fn values_v1(
    State(state): State<ApiState>,
    tenant: Tenant,
    TagPath(tag): TagPath,
    uri: Uri,
) -> Result<Response, Problem> {
    Ok(json(&without_types(values(&state, &tenant.0, ValuesAsked::of(tag, &uri)?).await?)))
}

pub(super) async fn values_v2(
    State(state): State<ApiState>,
    tenant: Tenant,
    TagPath(tag): TagPath,
    uri: Uri,
) -> Result<Response, Problem> {
    Ok(json(&values(&state, &tenant.0, ValuesAsked::of(tag, &uri)?).await?))
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
    tenant: &TenantId,
    asked: ValuesAsked,
) -> Result<SearchTagValuesV2Response, Problem> {
    let ValuesAsked { tag, among, limit } = asked;
    let (scope, key) = scope_and_key(&tag);
    let offered = if scope.is_none() { values_of(&key) } else { None };
    let of_services = key == SERVICE_NAME && matches!(scope, None | Some(Scope::Either | Scope::Resource));
    let found = match offered {
        Some(Values::NotOffered) => Listing { items: Vec::new(), complete: true },
        Some(Values::Keywords(words)) => typed("keyword", words.iter().map(|word| (*word).to_owned()), true),
        Some(Values::SpanNames) => strings(state.answers.operations(tenant, None, &among).await?),
        Some(Values::Services) => strings(state.answers.services(tenant, &among).await?),
        None if of_services => strings(state.answers.services(tenant, &among).await?),
        None => state.answers.attribute_values(tenant, scope.unwrap_or(Scope::Either), &key, limit, &among).await?,
    };
    let value = |seen: AttributeValueSeen| TagValue { r#type: seen.value_type.to_owned(), value: seen.value };
    Ok(SearchTagValuesV2Response { tag_values: found.items.into_iter().take(limit).map(value).collect() })
}

fn strings(listing: Listing<String>) -> Listing<AttributeValueSeen> {
    typed("string", listing.items.into_iter(), listing.complete)
}

fn typed(
    value_type: &'static str,
    values: impl Iterator<Item = String>,
    complete: bool,
) -> Listing<AttributeValueSeen> {
    Listing { items: values.map(|value| AttributeValueSeen { value_type, value }).collect(), complete }
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
    let unquoted = key.strip_prefix('"').and_then(|key| key.strip_suffix('"'));
    (scope, unquoted.map_or_else(|| key.to_owned(), |key| key.replace("\\\"", "\"")))
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
