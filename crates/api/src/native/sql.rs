use arrow::datatypes::{DataType, Schema};
use arrow::ipc::writer::StreamWriter;
use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use http::header::ACCEPT;
use http::{HeaderMap, HeaderValue};
use serde::{Deserialize, Serialize};
use tracehouse_model::Caller;
use tracehouse_sql::{SqlAnswer, SqlRequest};
use utoipa::ToSchema;

use super::sql_values::JsonRows;
use crate::answer::{JSON, in_parts, large, until_sent};
use crate::caller::one_tenant;
use crate::problem::Problem;
use crate::state::ApiState;

const ARROW_STREAM: &str = "application/vnd.apache.arrow.stream";
const ROWS_DEFAULT: usize = 10_000;
/// Of an answer as JSON. As Arrow the engine's own limit holds.
const JSON_ROWS_MAX: usize = 100_000;
/// Where an answer as Arrow says that it is not whole: in the schema's metadata and in the header of the response.
const PARTIAL_KEY: &str = "tracehouse.partial_reason";
const PARTIAL_HEADER: &str = "x-tracehouse-partial-reason";

/// A larger answer is written part by part while it is sent: its text may be several times as large as its rows.
const AT_ONCE_BYTES_MAX: usize = 4 << 20;
/// About the size of a part.
const PART_BYTES: usize = 1 << 20;

/// A statement and how many rows of its answer are wanted.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SqlBody {
    /// One statement that only reads.
    #[schema(example = "SELECT service_name, count(*) AS spans FROM spans GROUP BY 1")]
    query: String,
    /// Most rows of the answer: 10,000 if absent, at most 100,000 (1,000,000 as Arrow).
    limit: Option<usize>,
}

/// The rows of an answer.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SqlAnswerBody {
    columns: Vec<SqlColumn>,
    /// Each with a value for every column. Times are RFC 3339 with nanoseconds, lists are arrays.
    rows: Vec<Vec<serde_json::Value>>,
    /// False if there are more rows, or some files could not be read.
    complete: bool,
    partial_reason: Option<String>,
    elapsed_nanos: u64,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct SqlColumn {
    name: String,
    /// `text`, `bigint`, `double`, `boolean`, `timestamp`, `list`, …
    #[serde(rename = "type")]
    column_type: String,
}

/// Answers a SQL statement over the tables `spans`, `traces`, `events` and `links`.
#[utoipa::path(
    post, path = "/api/v1/sql", tag = "traces",
    request_body = SqlBody,
    responses(
        (status = 200, content((SqlAnswerBody = "application/json"), (Vec<u8> = "application/vnd.apache.arrow.stream"))),
        (status = 400, body = Problem), (status = 503, body = Problem), (status = 504, body = Problem),
    )
)]
pub(crate) async fn sql(
    State(state): State<ApiState>,
    caller: Caller,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    one_tenant(&caller)?;
    let expected = r#"the body is expected to be {"query": "SELECT …", "limit": 10000}"#;
    let body: SqlBody =
        serde_json::from_slice(&body).map_err(|error| Problem::invalid_query(format!("{expected}: {error}")))?;
    let as_arrow = headers
        .get_all(ACCEPT)
        .iter()
        .any(|accepted| accepted.to_str().is_ok_and(|accepted| accepted.contains(ARROW_STREAM)));
    let rows_max = body.limit.unwrap_or(ROWS_DEFAULT);
    if !as_arrow && rows_max > JSON_ROWS_MAX {
        let detail = format!("limit is {rows_max}; JSON has at most {JSON_ROWS_MAX} rows, {ARROW_STREAM} has more");
        return Err(Problem::invalid_parameter("limit", detail));
    }
    let answer = state.answers.sql(&caller, SqlRequest { query: body.query, rows_max }).await?;
    if as_arrow { arrow_answer(&state, &headers, answer).await } else { json_answer(&state, &headers, answer).await }
}

async fn json_answer(state: &ApiState, headers: &HeaderMap, answer: SqlAnswer) -> Result<Response, Problem> {
    let (rows, memory) = (answer.rows, answer.memory.clone());
    let parts = json_parts(answer);
    let response = if memory.bytes() > AT_ONCE_BYTES_MAX {
        in_parts(JSON, parts)
    } else {
        large(state, headers, rows, JSON, move || parts.flatten().collect()).await?
    };
    Ok(until_sent(response, vec![memory]))
}

/// As [`SqlAnswerBody`], written without a value for each cell.
fn json_parts(answer: SqlAnswer) -> impl Iterator<Item = Vec<u8>> + Send {
    let write = "writing plain data to memory can't fail";
    let columns: Vec<SqlColumn> = answer
        .schema
        .fields()
        .iter()
        .map(|field| SqlColumn { name: field.name().clone(), column_type: type_name(field.data_type()) })
        .collect();
    let mut head = br#"{"columns":"#.to_vec();
    serde_json::to_writer(&mut head, &columns).expect(write);
    head.extend_from_slice(br#","rows":["#);
    let mut tail = br#"],"complete":"#.to_vec();
    serde_json::to_writer(&mut tail, &answer.complete).expect(write);
    tail.extend_from_slice(br#","partialReason":"#);
    serde_json::to_writer(&mut tail, &answer.partial_reason).expect(write);
    tail.extend_from_slice(br#","elapsedNanos":"#);
    serde_json::to_writer(&mut tail, &u64::try_from(answer.elapsed.as_nanos()).unwrap_or(u64::MAX)).expect(write);
    tail.push(b'}');
    [head].into_iter().chain(JsonRows::new(answer.batches, PART_BYTES)).chain([tail])
}

async fn arrow_answer(state: &ApiState, headers: &HeaderMap, answer: SqlAnswer) -> Result<Response, Problem> {
    let partial = answer.partial_reason.as_deref().and_then(|reason| HeaderValue::from_str(reason).ok());
    let content_type = HeaderValue::from_static(ARROW_STREAM);
    let (rows, memory) = (answer.rows, answer.memory.clone());
    let parts = arrow_parts(answer);
    let response = if memory.bytes() > AT_ONCE_BYTES_MAX {
        in_parts(content_type, parts)
    } else {
        large(state, headers, rows, content_type, move || parts.flatten().collect()).await?
    };
    let mut response = until_sent(response, vec![memory]);
    if let Some(partial) = partial {
        response.headers_mut().insert(PARTIAL_HEADER, partial);
    }
    Ok(response)
}

/// A part for the schema, for each batch, and for the end.
fn arrow_parts(answer: SqlAnswer) -> impl Iterator<Item = Vec<u8>> + Send {
    let metadata = answer.partial_reason.iter().map(|reason| (PARTIAL_KEY.to_owned(), reason.clone())).collect();
    let schema = Schema::new_with_metadata(answer.schema.fields().clone(), metadata);
    let write = "writing batches of one schema to memory can't fail";
    let mut writer = StreamWriter::try_new(Vec::new(), &schema).expect(write);
    let written = answer.batches.into_iter().map(Some).chain([None]);
    written.map(move |batch| {
        match batch {
            Some(batch) => writer.write(&batch).expect(write),
            None => writer.finish().expect(write),
        }
        std::mem::take(writer.get_mut())
    })
}

/// A type as SQL names it.
fn type_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Utf8 => "text".to_owned(),
        DataType::Boolean => "boolean".to_owned(),
        DataType::Timestamp(_, _) => "timestamp".to_owned(),
        DataType::Date32 | DataType::Date64 => "date".to_owned(),
        DataType::Interval(_) | DataType::Duration(_) => "interval".to_owned(),
        DataType::Float16 | DataType::Float32 | DataType::Float64 => "double".to_owned(),
        DataType::List(_) => "list".to_owned(),
        DataType::Struct(_) => "struct".to_owned(),
        data_type if data_type.is_integer() => "bigint".to_owned(),
        other => other.to_string().to_lowercase(),
    }
}
