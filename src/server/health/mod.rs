//! `/healthz` and `/metrics` on the chat's own listener, for monitoring: processes of this machine and configured peers.
//! Other peers get 404.

mod process;

use std::fmt::Write;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::chat::Chat;
use crate::http::{Site, SiteRequest};
use crate::platform::clock::HEARTBEAT_STALE_SECONDS;
use crate::platform::clock::epoch_seconds;
use crate::platform::metrics::{Count, DURATION_BOUNDS, Histogram, METRICS, PUSH_OUTCOMES};
use crate::platform::net::is_localhost;
use crate::store::Availability;

/// A part that has been silent for longer hangs.
const SILENCE_LIMIT: Duration = Duration::from_secs(60);

/// Serves the two pages; all other requests go to `others`, if there are any.
pub(crate) struct Health {
    chat: Arc<Chat>,
    database: Arc<Availability>,
    /// `HOST:PORT` where the service listens.
    address: String,
    others: Option<Box<dyn Site>>,
}

#[derive(Serialize)]
struct HealthReport {
    status: &'static str,
    version: &'static str,
    database: bool,
    /// Why the last heartbeat could not be written.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    heartbeat_age_seconds: Option<u64>,
    hung: Vec<&'static str>,
    agents: usize,
    connections: u64,
}

impl Health {
    /// The pages about `chat`; `database` says whether it answered last time, `address` where the service listens.
    pub(crate) fn new(
        chat: Arc<Chat>,
        database: Arc<Availability>,
        address: String,
        others: Option<Box<dyn Site>>,
    ) -> Self {
        Health {
            chat,
            database,
            address,
            others,
        }
    }

    /// Whether a `Host` header is one that no stranger's page can send: such a page sends its own name, even if that
    /// resolves to this machine (DNS rebinding).
    fn is_asked_by_own_name(&self, host: Option<&str>) -> bool {
        let Some(name) = host.and_then(name_of) else {
            return false;
        };
        let listening = name_of(&self.address);
        let names = &self.chat.limits.metrics_hosts;
        name.parse::<IpAddr>().is_ok()
            || is_localhost(name)
            || listening.is_some_and(|own| name.eq_ignore_ascii_case(own))
            || names.iter().any(|own| name.eq_ignore_ascii_case(own))
    }

    fn report(&self) -> HealthReport {
        let database = self.database.is_up();
        let reason = self.database.refusal();
        let age = heartbeat_age();
        let watched = self.chat.threads.watched();
        let hung: Vec<&str> = watched
            .iter()
            .filter(|one| one.silence() > SILENCE_LIMIT)
            .map(|one| one.label())
            .collect();
        let is_fresh = age.is_none_or(|age| age <= HEARTBEAT_STALE_SECONDS.unsigned_abs());
        HealthReport {
            status: match database && reason.is_none() && is_fresh && hung.is_empty() {
                true => "ok",
                false => "failing",
            },
            version: env!("CARGO_PKG_VERSION"),
            database,
            reason,
            heartbeat_age_seconds: age,
            hung,
            agents: self.chat.hub.local_agents().len(),
            connections: METRICS.open.get(),
        }
    }

    fn metrics(&self) -> String {
        let mut page = Page::default();
        let version = env!("CARGO_PKG_VERSION");
        page.family("build_info", "gauge", "What runs here.");
        let commit = env!("ANDREA_CHAT_COMMIT");
        let labels = format!("version=\"{version}\",commit=\"{commit}\"");
        page.value("build_info", &labels, 1);
        page.gauge("connections", "Open WebSocket connections.", &METRICS.open);
        page.family("agents", "gauge", "Agents with a connection here.");
        page.value("agents", "", self.chat.hub.local_agents().len() as u64);
        counts(&mut page);
        self.queue_metrics(&mut page);
        refusals(&mut page);
        let delivery = "From the commit of a message until it was written to its members.";
        page.histogram("delivery_seconds", delivery, &METRICS.delivery);
        if self.chat.push.is_some() {
            page.family("push_total", "counter", "Pushes, by what became of them.");
            for (outcome, count) in PUSH_OUTCOMES.iter().zip(&METRICS.pushes) {
                page.value("push_total", &format!("outcome=\"{outcome}\""), count.get());
            }
            page.gauge("push_waiting", "Pushes that wait.", &METRICS.push_waiting);
        }
        if self.chat.bus.is_some() {
            page.gauge("bus_up", "Whether the bus is there.", &METRICS.bus_up);
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
        for one in self.chat.threads.watched() {
            let label = format!("part=\"{}\"", one.label());
            page.decimal("silence_seconds", &label, one.silence().as_secs_f64());
        }
        for (name, kind, about, value) in process::metrics() {
            page.raw(name, kind, about, value);
        }
        page.text
    }

    fn queue_metrics(&self, page: &mut Page) {
        page.family("queue_length", "gauge", "What waits, by queue.");
        for (queue, length) in [
            ("posts", self.chat.posts_waiting()),
            ("queries", self.chat.questions_waiting()),
            ("hub", self.chat.hub.queued()),
        ] {
            page.value("queue_length", &format!("queue=\"{queue}\""), length as u64);
        }
    }

    fn database_metrics(&self, page: &mut Page) {
        page.family(
            "database_up",
            "gauge",
            "Whether the database answered last time.",
        );
        let up = self.database.is_up();
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
        page.gauge(
            "database_connections",
            "Connections to the database.",
            &METRICS.database_connections,
        );
        let calls = "Duration of calls to the database.";
        page.histogram("database_seconds", calls, &METRICS.database);
    }
}

impl Site for Health {
    fn answer(&self, request: &SiteRequest<'_>) -> Option<Vec<u8>> {
        let is_ours = matches!(request.path, "/healthz" | "/metrics")
            && self.chat.limits.health_peers.contains(request.peer.ip());
        if !is_ours {
            return self.others.as_ref()?.answer(request);
        }
        if !matches!(request.method, "GET" | "HEAD") {
            let text = "only GET and HEAD are allowed here\n";
            return Some(response("405 Method Not Allowed", "text/plain", text, true));
        }
        let with_body = request.method == "GET";
        Some(match request.path {
            "/metrics" if !self.is_asked_by_own_name(request.host) => {
                let text = "asked for under another name than one of this service (CHAT_WEBSOCKET_METRICS_HOSTS)\n";
                response("421 Misdirected Request", "text/plain", text, with_body)
            }
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

/// The name or address in `HOST:PORT` or `HOST`, without the brackets of IPv6.
fn name_of(host: &str) -> Option<&str> {
    let (name, port) = match host.strip_prefix('[') {
        Some(inside) => inside.split_once(']')?,
        None => host.split_at(host.find(':').unwrap_or(host.len())),
    };
    let is_port = |port: &str| port.parse::<u16>().is_ok();
    (port.is_empty() || port.strip_prefix(':').is_some_and(is_port)).then_some(name)
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

    /// A metric without the service's prefix.
    fn raw(&mut self, name: &str, kind: &str, about: &str, value: f64) {
        let _ = writeln!(
            self.text,
            "# HELP {name} {about}\n# TYPE {name} {kind}\n{name} {value}"
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

    fn histogram(&mut self, name: &str, about: &str, durations: &Histogram) {
        self.family(name, "histogram", about);
        let mut sum = 0;
        let bounds = DURATION_BOUNDS.map(|micros| (micros as f64 / 1e6).to_string());
        let bounds = bounds.iter().map(String::as_str).chain(["+Inf"]);
        for (bound, count) in bounds.zip(durations.classes()) {
            sum += count;
            self.value(&format!("{name}_bucket"), &format!("le=\"{bound}\""), sum);
        }
        self.decimal(&format!("{name}_sum"), "", durations.seconds());
        self.value(&format!("{name}_count"), "", sum);
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
fn counts(page: &mut Page) {
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
}

fn refusals(page: &mut Page) {
    page.family("errors_total", "counter", "Error events, by code.");
    for (code, count) in METRICS.errors() {
        page.value("errors_total", &format!("code=\"{code}\""), count);
    }
    page.family("limits_total", "counter", "Limits that were hit, by kind.");
    for (limit, count) in METRICS.limits() {
        page.value("limits_total", &format!("limit=\"{limit}\""), count);
    }
    page.family(
        "handshakes_refused_total",
        "counter",
        "Requests refused, by status.",
    );
    for (status, count) in METRICS.refused_requests() {
        page.value(
            "handshakes_refused_total",
            &format!("status=\"{status}\""),
            count,
        );
    }
    page.family("closes_total", "counter", "Close frames sent, by code.");
    for (code, count) in METRICS.closes() {
        let code = match code {
            0 => "other".to_owned(),
            code => code.to_string(),
        };
        page.value("closes_total", &format!("code=\"{code}\""), count);
    }
}
