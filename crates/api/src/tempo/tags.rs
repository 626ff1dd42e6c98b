use std::collections::{BTreeMap, BTreeSet};

use axum::extract::State;
use axum::response::Response;
use http::Uri;
use serde::Serialize;
use tracehouse_model::TenantId;
use tracehouse_query::{AttributeValueSeen, Listing, Scope};

use super::intrinsics::{INTRINSICS, Values, values_of};
use super::{parameters, time_range_seconds};
use crate::answer::json;
use crate::params::{Parameters, TagPath};
use crate::problem::Problem;
use crate::scope::{parse_scope, scope_name};
use crate::state::ApiState;
use crate::tenant::Tenant;

const SERVICE_NAME: &str = "service.name";
const ITEMS_DEFAULT: usize = 1000;
const ITEMS_MAX: usize = 10_000;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TagNamesV1 {
    tag_names: BTreeSet<String>,
}

#[derive(Serialize)]
struct TagNamesV2 {
    scopes: Vec<ScopeTags>,
}

#[derive(Serialize)]
struct ScopeTags {
    name: &'static str,
    tags: BTreeSet<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TagValuesV1 {
    tag_values: Vec<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TagValuesV2 {
    tag_values: Vec<TagValue>,
}

#[derive(Serialize)]
struct TagValue {
    #[serde(rename = "type")]
    value_type: &'static str,
    value: String,
}

/// Which tags are asked for.
#[derive(Clone, Copy)]
enum Wanted {
    All,
    Intrinsic,
    Attributes(Scope),
}

fn wanted(parameters: &Parameters) -> Result<Wanted, Problem> {
    let parse = |name: &str| match name {
        "none" | "all" => Some(Wanted::All),
        "intrinsic" => Some(Wanted::Intrinsic),
        scope => parse_scope(scope).map(Wanted::Attributes),
    };
    let expected = "one of span, resource, instrumentation, event, link, intrinsic";
    Ok(parameters.parsed("scope", parse, expected)?.unwrap_or(Wanted::All))
}

/// As in Tempo, 0 is as good as no limit.
fn limit(parameters: &Parameters) -> Result<usize, Problem> {
    let limit = parameters.count("limit", 0, 0..=usize::MAX)?;
    Ok(if limit == 0 { ITEMS_DEFAULT } else { limit.min(ITEMS_MAX) })
}

pub(super) async fn names_v1(State(state): State<ApiState>, tenant: Tenant, uri: Uri) -> Result<Response, Problem> {
    let scopes = names(&state, &tenant.0, &uri).await?;
    let tag_names = scopes.into_iter().flat_map(|scope| scope.tags).collect();
    Ok(json(&TagNamesV1 { tag_names }))
}

pub(super) async fn names_v2(State(state): State<ApiState>, tenant: Tenant, uri: Uri) -> Result<Response, Problem> {
    let scopes = names(&state, &tenant.0, &uri).await?;
    Ok(json(&TagNamesV2 { scopes }))
}

async fn names(state: &ApiState, tenant: &TenantId, uri: &Uri) -> Result<Vec<ScopeTags>, Problem> {
    let parameters = parameters(uri)?;
    time_range_seconds(&parameters)?;
    let limit = limit(&parameters)?;
    let wanted = wanted(&parameters)?;
    let mut scopes: BTreeMap<Scope, BTreeSet<String>> = BTreeMap::new();
    let scope = match wanted {
        Wanted::Attributes(scope) => Some(scope),
        Wanted::All | Wanted::Intrinsic => None,
    };
    if !matches!(wanted, Wanted::Intrinsic) {
        for seen in state.answers.attribute_keys(tenant, scope).await?.items {
            let tags = scopes.entry(seen.scope).or_default();
            if tags.len() < limit {
                tags.insert(seen.key);
            }
        }
    }
    let mut answer: Vec<ScopeTags> =
        scopes.into_iter().map(|(scope, tags)| ScopeTags { name: scope_name(scope), tags }).collect();
    if matches!(wanted, Wanted::All | Wanted::Intrinsic) {
        let tags = INTRINSICS.iter().map(|(name, _)| (*name).to_owned()).collect();
        answer.push(ScopeTags { name: "intrinsic", tags });
    }
    Ok(answer)
}

pub(super) async fn values_v1(
    State(state): State<ApiState>,
    tenant: Tenant,
    TagPath(tag): TagPath,
    uri: Uri,
) -> Result<Response, Problem> {
    let found = values(&state, &tenant.0, &tag, &uri).await?;
    // Without its type a value may be there twice, as a text and as a number.
    let texts: BTreeSet<String> = found.items.into_iter().map(|seen| seen.value).collect();
    Ok(json(&TagValuesV1 { tag_values: texts.into_iter().collect() }))
}

pub(super) async fn values_v2(
    State(state): State<ApiState>,
    tenant: Tenant,
    TagPath(tag): TagPath,
    uri: Uri,
) -> Result<Response, Problem> {
    let found = values(&state, &tenant.0, &tag, &uri).await?;
    let tag_values =
        found.items.into_iter().map(|seen| TagValue { value_type: seen.value_type, value: seen.value }).collect();
    Ok(json(&TagValuesV2 { tag_values }))
}

/// The values of an intrinsic or of an attribute. A filter (`q`) is ignored: more values are offered than would match.
async fn values(
    state: &ApiState,
    tenant: &TenantId,
    tag: &str,
    uri: &Uri,
) -> Result<Listing<AttributeValueSeen>, Problem> {
    let parameters = parameters(uri)?;
    time_range_seconds(&parameters)?;
    let limit = limit(&parameters)?;
    let (scope, key) = scope_and_key(tag);
    let offered = if scope.is_none() { values_of(&key) } else { None };
    let of_services = key == SERVICE_NAME && matches!(scope, None | Some(Scope::Either | Scope::Resource));
    let mut found = match offered {
        Some(Values::NotOffered) => Listing { items: Vec::new(), complete: true },
        Some(Values::Keywords(words)) => typed("keyword", words.iter().map(|word| (*word).to_owned()), true),
        Some(Values::SpanNames) => strings(state.answers.operations(tenant, None).await?),
        Some(Values::Services) => strings(state.answers.services(tenant).await?),
        None if of_services => strings(state.answers.services(tenant).await?),
        None => state.answers.attribute_values(tenant, scope.unwrap_or(Scope::Either), &key, limit).await?,
    };
    found.complete &= found.items.len() <= limit;
    found.items.truncate(limit);
    Ok(found)
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
