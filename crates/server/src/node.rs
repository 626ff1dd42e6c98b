//! One process's roles while they run: what the start of each makes, and how each is stopped.

use std::fs::{File, TryLockError};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use futures::future::BoxFuture;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tracehouse_model::{Clock, SystemClock};

use crate::config::Config;
use crate::roles::{ROLES, Start};

pub(crate) struct Node {
    pub(crate) config: Config,
    stops: Vec<(&'static str, BoxFuture<'static, ()>)>,
}

impl Node {
    pub(crate) async fn start_catalogue(&mut self) -> anyhow::Result<()> {
        anyhow::bail!("not wired yet")
    }
    pub(crate) async fn start_store(&mut self) -> anyhow::Result<()> {
        anyhow::bail!("not wired yet")
    }
    pub(crate) async fn start_query(&mut self) -> anyhow::Result<()> {
        anyhow::bail!("not wired yet")
    }
    pub(crate) async fn start_gateway(&mut self) -> anyhow::Result<()> {
        anyhow::bail!("not wired yet")
    }
}
