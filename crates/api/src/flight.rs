//! SQL over Arrow Flight SQL, for ADBC, JDBC and whatever else speaks it.
//!
//! Nothing is kept between calls: the handle of a statement, prepared or not, is its text, and it runs when its rows
//! are fetched. There are no parameters, no transactions and no updates.
//!
//! Source: Apache Arrow, "Arrow Flight SQL" (format documentation).

use std::sync::LazyLock;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::writer::IpcWriteOptions;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_server::{FlightService, FlightServiceServer};
use arrow_flight::sql::metadata::{SqlInfoData, SqlInfoDataBuilder};
use arrow_flight::sql::server::FlightSqlService;
use arrow_flight::sql::{
    ActionClosePreparedStatementRequest, ActionCreatePreparedStatementRequest, ActionCreatePreparedStatementResult,
    CommandGetCatalogs, CommandGetDbSchemas, CommandGetSqlInfo, CommandGetTableTypes, CommandGetTables,
    CommandPreparedStatementQuery, CommandStatementQuery, ProstMessageExt, SqlInfo, TicketStatementQuery,
};
use arrow_flight::{Action, FlightDescriptor, FlightEndpoint, FlightInfo, IpcMessage, SchemaAsIpc, Ticket};
use axum::Router;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use prost::Message;
use tonic::metadata::MetadataMap;
use tonic::{Code, Request, Response, Status};
use tracehouse_model::Caller;
use tracehouse_query::Reservation;
use tracehouse_sql::{SqlError, SqlRequest, TABLES};

use crate::caller::{caller_of, one_tenant};
use crate::state::ApiState;

/// The one catalogue and schema that there are.
const CATALOGUE: &str = "tracehouse";
const SCHEMA: &str = "public";
/// A longer answer is an error: clients of Flight SQL don't look for a note that it was cut.
const ROWS_MAX: usize = 1_000_000;

/// Flight's gRPC service, for the port of the other interfaces.
pub(crate) fn routes(state: ApiState) -> Router {
    let service = FlightServiceServer::new(FlightSql { state });
    Router::new().route_service("/arrow.flight.protocol.FlightService/{method}", service)
}

#[derive(Clone)]
struct FlightSql {
    state: ApiState,
}

type DoGet = Response<<FlightSql as FlightService>::DoGetStream>;

impl FlightSql {
    fn caller(&self, metadata: &MetadataMap) -> Result<Caller, Status> {
        let caller = caller_of(&metadata.clone().into_headers(), &self.state)?;
        one_tenant(&caller)?;
        Ok(caller)
    }

    async fn schema(&self, metadata: &MetadataMap, query: &str) -> Result<SchemaRef, Status> {
        let caller = self.caller(metadata)?;
        self.state.answers.sql_schema(&caller, query).await.map_err(status)
    }

    async fn run(&self, metadata: &MetadataMap, handle: &Bytes) -> Result<DoGet, Status> {
        let query = text_of(handle)?;
        let caller = self.caller(metadata)?;
        let request = SqlRequest { query, rows_max: ROWS_MAX };
        let answer = self.state.answers.sql(&caller, request).await.map_err(status)?;
        match answer.partial_reason {
            None => Ok(batches(answer.schema, answer.batches, answer.memory)),
            Some(reason) => Err(Status::resource_exhausted(format!("the answer is not complete: {reason}"))),
        }
    }
}

/// `memory`: what the rows count as, kept until the last message was taken.
fn batches(schema: SchemaRef, batches: Vec<RecordBatch>, memory: Reservation) -> DoGet {
    let rows = stream::iter(batches.into_iter().map(Ok::<_, FlightError>));
    let encoded = FlightDataEncoderBuilder::new().with_schema(schema).build(rows);
    let held = encoded.inspect(move |_| {
        let _ = &memory;
    });
    Response::new(held.map_err(Status::from).boxed())
}

/// Where to get the rows of a command: here, with the command as the ticket.
fn info(schema: &Schema, ticket: Vec<u8>, request: Request<FlightDescriptor>) -> Result<Response<FlightInfo>, Status> {
    let endpoint = FlightEndpoint::new().with_ticket(Ticket::new(ticket));
    let info = FlightInfo::new().try_with_schema(schema).map_err(arrow_status)?;
    Ok(Response::new(info.with_endpoint(endpoint).with_descriptor(request.into_inner())))
}

fn text_of(handle: &Bytes) -> Result<String, Status> {
    String::from_utf8(handle.to_vec()).map_err(|_| Status::invalid_argument("the statement is not UTF-8"))
}

fn status(error: SqlError) -> Status {
    let code = match error {
        SqlError::Invalid(_) => Code::InvalidArgument,
        SqlError::Busy { .. } => Code::Unavailable,
        SqlError::Timeout { .. } => Code::DeadlineExceeded,
        SqlError::Memory { .. } => Code::ResourceExhausted,
        SqlError::Ended => Code::Internal,
    };
    Status::new(code, error.to_string())
}

fn arrow_status(error: ArrowError) -> Status {
    tracing::error!(%error, "writing Arrow failed");
    Status::internal("the answer could not be written; this is a defect, please report it with the server's log")
}

fn about_the_server() -> &'static SqlInfoData {
    static INFO: LazyLock<SqlInfoData> = LazyLock::new(|| {
        let mut builder = SqlInfoDataBuilder::new();
        builder.append(SqlInfo::FlightSqlServerName, "Tracehouse");
        builder.append(SqlInfo::FlightSqlServerVersion, env!("CARGO_PKG_VERSION"));
        builder.append(SqlInfo::FlightSqlServerArrowVersion, "1.3");
        builder.append(SqlInfo::FlightSqlServerReadOnly, true);
        builder.append(SqlInfo::FlightSqlServerSql, true);
        builder.append(SqlInfo::FlightSqlServerTransaction, 0i32);
        builder.build().expect("the values have the types of their names")
    });
    &INFO
}

#[tonic::async_trait]
impl FlightSqlService for FlightSql {
    type FlightService = FlightSql;

    async fn get_flight_info_statement(
        &self,
        query: CommandStatementQuery,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let schema = self.schema(request.metadata(), &query.query).await?;
        let ticket = TicketStatementQuery { statement_handle: query.query.into() };
        info(&schema, ticket.as_any().encode_to_vec(), request)
    }

    async fn do_get_statement(&self, ticket: TicketStatementQuery, request: Request<Ticket>) -> Result<DoGet, Status> {
        self.run(request.metadata(), &ticket.statement_handle).await
    }

    async fn do_action_create_prepared_statement(
        &self,
        query: ActionCreatePreparedStatementRequest,
        request: Request<Action>,
    ) -> Result<ActionCreatePreparedStatementResult, Status> {
        let schema = self.schema(request.metadata(), &query.query).await?;
        let options = IpcWriteOptions::default();
        let IpcMessage(dataset_schema) = SchemaAsIpc::new(&schema, &options).try_into().map_err(arrow_status)?;
        Ok(ActionCreatePreparedStatementResult {
            prepared_statement_handle: query.query.into(),
            dataset_schema,
            parameter_schema: Bytes::new(),
        })
    }

    async fn do_action_close_prepared_statement(
        &self,
        _: ActionClosePreparedStatementRequest,
        _: Request<Action>,
    ) -> Result<(), Status> {
        Ok(())
    }

    async fn get_flight_info_prepared_statement(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let schema = self.schema(request.metadata(), &text_of(&query.prepared_statement_handle)?).await?;
        info(&schema, query.as_any().encode_to_vec(), request)
    }

    async fn do_get_prepared_statement(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<Ticket>,
    ) -> Result<DoGet, Status> {
        self.run(request.metadata(), &query.prepared_statement_handle).await
    }

    async fn get_flight_info_catalogs(
        &self,
        query: CommandGetCatalogs,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        info(&query.into_builder().schema(), query.as_any().encode_to_vec(), request)
    }

    async fn do_get_catalogs(&self, query: CommandGetCatalogs, _: Request<Ticket>) -> Result<DoGet, Status> {
        let mut catalogues = query.into_builder();
        catalogues.append(CATALOGUE);
        Ok(batches(catalogues.schema(), vec![catalogues.build().map_err(arrow_status_of)?], Reservation::default()))
    }

    async fn get_flight_info_schemas(
        &self,
        query: CommandGetDbSchemas,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        info(&query.clone().into_builder().schema(), query.as_any().encode_to_vec(), request)
    }

    async fn do_get_schemas(&self, query: CommandGetDbSchemas, _: Request<Ticket>) -> Result<DoGet, Status> {
        let mut schemas = query.into_builder();
        schemas.append(CATALOGUE, SCHEMA);
        Ok(batches(schemas.schema(), vec![schemas.build().map_err(arrow_status_of)?], Reservation::default()))
    }

    async fn get_flight_info_tables(
        &self,
        query: CommandGetTables,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        info(&query.clone().into_builder().schema(), query.as_any().encode_to_vec(), request)
    }

    async fn do_get_tables(&self, query: CommandGetTables, request: Request<Ticket>) -> Result<DoGet, Status> {
        let mut tables = query.into_builder();
        for table in TABLES {
            let schema = self.schema(request.metadata(), &format!("SELECT * FROM {table}")).await?;
            tables.append(CATALOGUE, SCHEMA, table, "TABLE", &schema).map_err(arrow_status_of)?;
        }
        Ok(batches(tables.schema(), vec![tables.build().map_err(arrow_status_of)?], Reservation::default()))
    }

    async fn get_flight_info_table_types(
        &self,
        query: CommandGetTableTypes,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        info(&query.into_builder().schema(), query.as_any().encode_to_vec(), request)
    }

    async fn do_get_table_types(&self, query: CommandGetTableTypes, _: Request<Ticket>) -> Result<DoGet, Status> {
        let mut types = query.into_builder();
        types.append("TABLE");
        Ok(batches(types.schema(), vec![types.build().map_err(arrow_status_of)?], Reservation::default()))
    }

    async fn get_flight_info_sql_info(
        &self,
        query: CommandGetSqlInfo,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        info(&query.clone().into_builder(about_the_server()).schema(), query.as_any().encode_to_vec(), request)
    }

    async fn do_get_sql_info(&self, query: CommandGetSqlInfo, _: Request<Ticket>) -> Result<DoGet, Status> {
        let asked = query.into_builder(about_the_server());
        let schema = asked.schema();
        Ok(batches(schema, vec![asked.build().map_err(arrow_status_of)?], Reservation::default()))
    }

    async fn register_sql_info(&self, _: i32, _: &SqlInfo) {}
}

fn arrow_status_of(error: FlightError) -> Status {
    tracing::error!(%error, "listing the tables failed");
    Status::internal("the list could not be written; this is a defect, please report it with the server's log")
}
