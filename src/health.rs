//! `/healthz` and `/metrics` on the chat's own listener, for whoever watches over it: processes of this machine, and
//! others that are allowed by name. To everybody else there are no such pages.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::Serialize;

use crate::clock::epoch_seconds;
use crate::connection::handshake::{Site, SiteRequest};
use crate::limits::HEARTBEAT_STALE_SECONDS;
use crate::metrics::{Count, DATABASE_BOUNDS, METRICS};
use crate::pulse;
use crate::service::Service;

/// A part that has been silent for longer hangs.
const SILENCE_LIMIT: Duration = Duration::from_secs(60);

/// The two pages, in front of others, if there are any.
pub struct Health {
    service: Arc<Service>,
    database: Arc<AtomicBool>,
    others: Option<Box<dyn Site>>,
}

#[derive(Serialize)]
struct Report {
    status: &'static str,
    version: &'static str,
    database: bool,
    heartbeat_age_seconds: Option<u64>,
    hung: Vec<&'static str>,
    agents: usize,
    connections: u64,
}

impl Health {
    /// The pages about `service`; `database` says whether it answered last time.
    pub fn new(
        service: Arc<Service>,
        database: Arc<AtomicBool>,
        others: Option<Box<dyn Site>>,
    ) -> Self {
        Health {
            service,
            database,
            others,
        }
    }

    fn report(&self) -> Report {
        let database = self.database.load(Ordering::Relaxed);
        let age = heartbeat_age();
        let hung: Vec<&str> = pulse::all()
            .into_iter()
            .filter(|part| part.silence() > SILENCE_LIMIT)
            .map(pulse::Pulse::name)
            .collect();
        let is_fresh = age.is_none_or(|age| age <= HEARTBEAT_STALE_SECONDS.unsigned_abs());
        Report {
            status: match database && is_fresh && hung.is_empty() {
                true => "ok",
                false => "failing",
            },
            version: env!("CARGO_PKG_VERSION"),
            database,
            heartbeat_age_seconds: age,
            hung,
            agents: self.service.hub.local_agents().len(),
            connections: METRICS.open.get(),
        }
    }

    fn metrics(&self) -> String {
        let mut page = Page::default();
        let version = env!("CARGO_PKG_VERSION");
        page.family("build_info", "gauge", "What runs here.");
        page.value("build_info", &format!("version=\"{version}\""), 1);
        page.gauge("connections", "Open WebSocket connections.", &METRICS.open);
        page.family("agents", "gauge", "Agents with a connection here.");
        page.value("agents", "", self.service.hub.local_agents().len() as u64);
        for (name, about, count) in [
            (
                "connections_total",
                "Connections that were granted.",
                &METRICS.granted,
            ),
            (
                "connections_full_total",
                "Sockets refused for want of room.",
                &METRICS.full,
            ),
            (
                "connections_slow_total",
                "Sockets dropped for reading too slowly.",
                &METRICS.slow,
            ),
            (
                "events_total",
                "Events received from clients.",
                &METRICS.events,
            ),
            ("messages_total", "Messages committed.", &METRICS.messages),
            (
                "deliveries_total",
                "Frames handed to sockets.",
                &METRICS.deliveries,
            ),
            (
                "auth_failures_total",
                "Authentications that failed.",
                &METRICS.auth_failures,
            ),
        ] {
            page.family(name, "counter", about);
            page.value(name, "", count.get());
        }
        page.family("errors_total", "counter", "Error events, by code.");
        for (code, count) in METRICS.errors() {
            page.value("errors_total", &format!("code=\"{code}\""), count);
        }
        page.family("queue_length", "gauge", "What waits, by queue.");
        for (queue, length) in [
            ("posts", self.service.posts.len()),
            ("queries", self.service.queries.len()),
            ("hub", self.service.hub.queued()),
        ] {
            page.value("queue_length", &format!("queue=\"{queue}\""), length as u64);
        }
        self.database_metrics(&mut page);
        if let Some(age) = heartbeat_age() {
            page.family(
                "heartbeat_age_seconds",
                "gauge",
                "Time since the last heartbeat.",
            );
            page.value("heartbeat_age_seconds", "", age);
        }
        page.family(
            "silence_seconds",
            "gauge",
            "Time since a part's last sign of life.",
        );
        for part in pulse::all() {
            let label = format!("part=\"{}\"", part.name());
            page.decimal("silence_seconds", &label, part.silence().as_secs_f64());
        }
        page.text
    }

    fn database_metrics(&self, page: &mut Page) {
        page.family(
            "database_up",
            "gauge",
            "Whether the database answered last time.",
        );
        let up = self.database.load(Ordering::Relaxed);
        page.value("database_up", "", u64::from(up));
        page.family(
            "database_failures_total",
            "counter",
            "Failed calls, by kind.",
        );
        for (kind, count) in METRICS.failures() {
            page.value(
                "database_failures_total",
                &format!("kind=\"{kind}\""),
                count,
            );
        }
        const NAME: &str = "database_seconds";
        page.family(NAME, "histogram", "Duration of calls to the database.");
        let mut sum = 0;
        let bounds = DATABASE_BOUNDS.map(|micros| (micros as f64 / 1e6).to_string());
        let bounds = bounds.iter().map(String::as_str).chain(["+Inf"]);
        for (bound, count) in bounds.zip(METRICS.database.iter().map(Count::get)) {
            sum += count;
            page.value(&format!("{NAME}_bucket"), &format!("le=\"{bound}\""), sum);
        }
        let seconds = METRICS.database_micros.get() as f64 / 1e6;
        page.decimal(&format!("{NAME}_sum"), "", seconds);
        page.value(&format!("{NAME}_count"), "", sum);
    }
}

impl Site for Health {
    fn answer(&self, request: &SiteRequest<'_>) -> Option<Vec<u8>> {
        let is_ours = matches!(request.path, "/healthz" | "/metrics")
            && self.service.limits.health_peers.allow(request.peer.ip());
        if !is_ours {
            return self.others.as_ref()?.answer(request);
        }
        if !matches!(request.method, "GET" | "HEAD") {
            let text = "only GET and HEAD are allowed here\n";
            return Some(response("405 Method Not Allowed", "text/plain", text, true));
        }
        let with_body = request.method == "GET";
        Some(match request.path {
            "/metrics" => {
                let kind = "text/plain; version=0.0.4; charset=utf-8";
                response("200 OK", kind, &self.metrics(), with_body)
            }
            _ => {
                let report = self.report();
                let status = match report.status {
                    "ok" => "200 OK",
                    _ => "503 Service Unavailable",
                };
                let mut text = serde_json::to_string(&report).unwrap_or_default();
                text.push('\n');
                response(status, "application/json", &text, with_body)
            }
        })
    }
}

fn heartbeat_age() -> Option<u64> {
    let last = METRICS.heartbeat.get();
    (last > 0).then(|| epoch_seconds().saturating_sub(last))
}

fn response(status: &str, kind: &str, text: &str, with_body: bool) -> Vec<u8> {
    let allow = match status.starts_with("405") {
        true => "Allow: GET, HEAD\r\n",
        false => "",
    };
    let body = if with_body { text } else { "" };
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nCache-Control: no-store\r\n\
         {allow}Connection: close\r\n\r\n{body}",
        text.len()
    )
    .into_bytes()
}

/// The text format of Prometheus.
#[derive(Default)]
struct Page {
    text: String,
}

// Writing to a string cannot fail.
impl Page {
    fn family(&mut self, name: &str, kind: &str, about: &str) {
        let _ = writeln!(
            self.text,
            "# HELP andrea_chat_{name} {about}\n# TYPE andrea_chat_{name} {kind}"
        );
    }

    fn gauge(&mut self, name: &str, about: &str, count: &Count) {
        self.family(name, "gauge", about);
        self.value(name, "", count.get());
    }

    fn value(&mut self, name: &str, label: &str, value: u64) {
        let labels = labels(label);
        let _ = writeln!(self.text, "andrea_chat_{name}{labels} {value}");
    }

    fn decimal(&mut self, name: &str, label: &str, value: f64) {
        let labels = labels(label);
        let _ = writeln!(self.text, "andrea_chat_{name}{labels} {value:.6}");
    }
}

fn labels(label: &str) -> String {
    match label {
        "" => String::new(),
        label => format!("{{{label}}}"),
    }
}
