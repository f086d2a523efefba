//! What an operator watches: metrics, their text, the dashboard and the alert rules, also with a real Prometheus.

#[path = "../common/mod.rs"]
mod common;

mod address;
mod alerts;
mod exposition;
mod metrics;
mod prometheus;
mod queries;
mod trouble;
