//! Which request gets which answer (spec/control.md §10.2, §10.3).

use std::sync::Arc;

use hyper::header::{ACCEPT, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, VARY};
use hyper::{Method, Request, Response, StatusCode};
use tokio::sync::Semaphore;

use super::body::Body;
use super::compress::Compressor;
use super::encoding::Encoding;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::readiness::Readiness;

/// `/metrics` and `/stats/prometheus`, any method.
pub(super) async fn metrics<B>(
    metrics: &Arc<Metrics>,
    turns: Arc<Semaphore>,
    request: &Request<B>,
) -> Response<Body> {
    if !matches!(request.uri().path(), "/metrics" | "/stats/prometheus") {
        return status(StatusCode::NOT_FOUND);
    }
    let kind = if accepts_open_metrics(request.headers()) {
        OPEN_METRICS
    } else {
        PLAIN_UTF8
    };
    let encoding = Encoding::negotiate(request.headers());
    let Ok(turn) = turns.acquire_owned().await else {
        return status(StatusCode::SERVICE_UNAVAILABLE);
    };
    let metrics = Arc::clone(metrics);
    // On another thread: adding up a large node's counters must not keep a probe on this one waiting.
    let Ok(scrape) = tokio::task::spawn_blocking(move || metrics.scrape()).await else {
        return status(StatusCode::INTERNAL_SERVER_ERROR);
    };
    let Ok(compressor) = encoding.map(Compressor::new).transpose() else {
        return status(StatusCode::INTERNAL_SERVER_ERROR);
    };
    let mut response = text(StatusCode::OK, kind, Body::scrape(scrape, turn, compressor));
    let headers = response.headers_mut();
    headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
    if let Some(encoding) = encoding {
        headers.insert(CONTENT_ENCODING, encoding.header());
    }
    response
}

/// `/healthz/ready`, GET only.
pub(super) fn readiness<B>(readiness: &Readiness, request: &Request<B>) -> Response<Body> {
    if request.uri().path() != "/healthz/ready" {
        return status(StatusCode::NOT_FOUND);
    }
    if request.method() != Method::GET {
        return status(StatusCode::METHOD_NOT_ALLOWED);
    }
    let missing = readiness.missing();
    if missing.is_empty() {
        return text(StatusCode::OK, PLAIN, Body::text("ready\n"));
    }
    let missing: Vec<_> = missing.into_iter().collect();
    let body = format!("not ready, pending: {}\n", missing.join(", "));
    text(StatusCode::INTERNAL_SERVER_ERROR, PLAIN, Body::text(body))
}

/// Any entry counts, whatever its weight, as upstream.
fn accepts_open_metrics(headers: &HeaderMap) -> bool {
    headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|entry| entry.split(';').next())
        .any(|media_type| {
            media_type
                .trim()
                .eq_ignore_ascii_case("application/openmetrics-text")
        })
}

fn status(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::default());
    *response.status_mut() = status;
    response
}

fn text(status: StatusCode, kind: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let kind = HeaderValue::from_static(kind);
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

const OPEN_METRICS: &str = "application/openmetrics-text;charset=utf-8;version=1.0.0";
const PLAIN: &str = "text/plain";
const PLAIN_UTF8: &str = "text/plain; charset=utf-8";
