//! The addresses of `--metrics-listen`: metrics and health checks, and nothing else.

use std::net::TcpStream;
use std::sync::Arc;

use super::routes::{Action, Routed, Scope, Topic};
use super::service::OrderService;
use crate::http::origin::Policy;
use crate::http::problem::Problem;
use crate::http::request::Request;
use crate::http::response::Answer;
use crate::http::service::{Call, Service, Session};

/// What these addresses serve.
pub struct MetricsAddress {
    /// Answers.
    pub service: Arc<OrderService>,
    /// The hosts and origins that are allowed here.
    pub policy: Policy,
}

impl Service for MetricsAddress {
    type Action = Action;
    type Topic = Topic;

    fn route(&self, request: Request<'_>) -> Routed {
        self.service.route_at(&self.policy, Scope::Metrics, request)
    }

    fn act(&self, action: Action, call: &Call<'_>) -> Option<Answer> {
        self.service.act(action, call)
    }

    fn open_session(&self, topic: Topic, stream: Arc<TcpStream>, early: Vec<u8>) -> Option<Box<dyn Session>> {
        self.service.open_session(topic, stream, early)
    }

    fn answer_problem(&self, problem: &Problem) -> Answer {
        self.service.answer_problem(problem)
    }
}
