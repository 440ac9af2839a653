//! `/healthz` and `/metrics` on the chat's own listener, for monitoring: processes of this machine and configured peers.
//! Other peers get 404.

mod process;

use std::fmt::Display;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::chat::Chat;
use crate::http::{self, Site, SiteRequest};
use crate::platform::clock::HEARTBEAT_STALE_SECONDS;
use crate::platform::clock::epoch_seconds;
use crate::platform::metrics::{DURATION_BOUNDS, Histogram, METRICS};
use crate::platform::net::is_localhost;
use crate::platform::threads::Progress;
use crate::store::Pool;

/// A part that has been silent for longer hangs.
const SILENCE_LIMIT: Duration = Duration::from_secs(60);

/// Serves the two pages; all other requests go to `others`, if there are any.
pub(crate) struct Health {
    pub(super) chat: Arc<Chat>,
    /// Knows whether the database answered last time.
    pub(super) pool: Arc<Pool>,
    /// `HOST:PORT` where the service listens.
    pub(super) address: String,
    pub(super) others: Option<Box<dyn Site>>,
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
        let availability = self.pool.availability();
        let (database, reason) = (availability.is_up(), availability.refusal());
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
        let (chat, metrics, mut page) = (&self.chat, &METRICS, Page::default());
        page.gauge("build_info", "What runs here.");
        let (version, commit) = (env!("CARGO_PKG_VERSION"), env!("ANDREA_CHAT_COMMIT"));
        page.value(&format!("{{version=\"{version}\",commit=\"{commit}\"}}"), 1);
        page.gauge("connections", "Open WebSocket connections.");
        page.value("", metrics.open.get());
        page.gauge("agents", "Agents with a connection here.");
        page.value("", chat.hub.local_agents().len());
        page.counter("connections_total", "Connections that were granted.");
        page.value("", metrics.granted.get());
        page.counter(
            "connections_full_total",
            "Sockets refused for want of room.",
        );
        page.value("", metrics.full.get());
        page.counter(
            "connections_slow_total",
            "Sockets dropped for reading too slowly.",
        );
        page.value("", metrics.slow.get());
        page.counter("events_total", "Events received from clients.");
        page.value("", metrics.events.get());
        page.counter("messages_total", "Messages committed.");
        page.value("", metrics.messages.get());
        page.counter("deliveries_total", "Frames handed to sockets.");
        page.value("", metrics.deliveries.get());
        page.counter("auth_failures_total", "Authentications that failed.");
        page.value("", metrics.auth_failures.get());
        page.gauge("queue_length", "What waits, by queue.");
        let (posts, queries) = (chat.posts_waiting(), chat.questions_waiting());
        let queues = [
            ("posts", posts),
            ("queries", queries),
            ("hub", chat.hub.queued()),
        ];
        page.values("queue", queues);
        page.counter("errors_total", "Error events, by code.");
        page.values("code", metrics.errors.all());
        page.counter("limits_total", "Limits that were hit, by kind.");
        page.values("limit", metrics.limits.all());
        page.counter("handshakes_refused_total", "Requests refused, by status.");
        page.values("status", metrics.refused.all());
        page.counter("closes_total", "Close frames sent, by code.");
        page.values("code", metrics.closes.all());
        let about = "From the commit of a message until it was written to its members.";
        page.histogram("delivery_seconds", about, &metrics.delivery);
        if chat.push.is_some() {
            page.counter("push_total", "Pushes, by what became of them.");
            page.values("outcome", metrics.pushes.all());
            page.gauge("push_waiting", "Pushes that wait.");
            page.value("", metrics.push_waiting.get());
        }
        if chat.bus.is_some() {
            page.gauge("bus_up", "Whether the bus is there.");
            page.value("", metrics.bus_up.get());
        }
        page.gauge("database_up", "Whether the database answered last time.");
        page.value("", u8::from(self.pool.availability().is_up()));
        page.counter("database_failures_total", "Failed calls, by kind.");
        page.values("kind", metrics.failures.all());
        page.gauge("database_connections", "Connections to the database.");
        page.value("", metrics.database_connections.get());
        let about = "Duration of calls to the database.";
        page.histogram("database_seconds", about, &metrics.database);
        if let Some(age) = heartbeat_age() {
            page.gauge("heartbeat_age_seconds", "Time since the last heartbeat.");
            page.value("", age);
        }
        page.gauge("silence_seconds", "Time since a part's last sign of life.");
        let watched = chat.threads.watched();
        let silence = |one: &Arc<Progress>| (one.label(), one.silence().as_secs_f64());
        page.values("part", watched.iter().map(silence));
        process::add(&mut page);
        page.text
    }
}

impl Site for Health {
    fn answer(&self, request: &SiteRequest<'_>) -> Option<Vec<u8>> {
        let is_ours = matches!(request.path, "/healthz" | "/metrics")
            && self.chat.limits.health_peers.contains(request.peer.ip());
        if !is_ours {
            return self.others.as_ref()?.answer(request);
        }
        const FRESH: &str = "Cache-Control: no-store\r\n";
        if request.method != "GET" {
            let allowed = "Allow: GET, HEAD\r\n";
            let text = "only GET and HEAD are allowed here";
            return Some(http::text_response("405 Method Not Allowed", allowed, text));
        }
        Some(match request.path {
            "/metrics" if !self.is_asked_by_own_name(request.host) => http::text_response(
                "421 Misdirected Request",
                FRESH,
                "asked for under another name than one of this service (CHAT_WEBSOCKET_METRICS_HOSTS)",
            ),
            "/metrics" => {
                let kind = "text/plain; version=0.0.4; charset=utf-8";
                http::response("200 OK", kind, FRESH, &self.metrics())
            }
            _ => {
                let report = self.report();
                let status = match report.status {
                    "ok" => "200 OK",
                    _ => "503 Service Unavailable",
                };
                let text = serde_json::to_string(&report).unwrap_or_default() + "\n";
                http::response(status, "application/json", FRESH, &text)
            }
        })
    }
}

/// The name or address in `HOST:PORT` or `HOST`, without the brackets of IPv6.
fn name_of(host: &str) -> Option<&str> {
    http::without_port(host).map(|name| name.trim_matches(['[', ']']))
}

fn heartbeat_age() -> Option<u64> {
    let last = METRICS.heartbeat.get();
    (last > 0).then(|| epoch_seconds().saturating_sub(last))
}

/// The text format of Prometheus.
#[derive(Default)]
struct Page {
    text: String,
    /// Of the family whose values come next.
    name: String,
}

impl Page {
    /// Begins a metric, whose values come next.
    fn family(&mut self, name: String, kind: &str, about: &str) {
        let head = format!("# HELP {name} {about}\n# TYPE {name} {kind}\n");
        self.text += &head;
        self.name = name;
    }

    fn gauge(&mut self, name: &str, about: &str) {
        self.family(format!("andrea_chat_{name}"), "gauge", about);
    }

    fn counter(&mut self, name: &str, about: &str) {
        self.family(format!("andrea_chat_{name}"), "counter", about);
    }

    /// `labels` may have an ending of the metric's name before them.
    fn value(&mut self, labels: &str, value: impl Display) {
        let value = format!("{}{labels} {value}\n", self.name);
        self.text += &value;
    }

    fn values<T: Display>(
        &mut self,
        label: &str,
        all: impl IntoIterator<Item = (&'static str, T)>,
    ) {
        for (of, value) in all {
            self.value(&format!("{{{label}=\"{of}\"}}"), value);
        }
    }

    fn histogram(&mut self, name: &str, about: &str, durations: &Histogram) {
        self.family(format!("andrea_chat_{name}"), "histogram", about);
        let mut sum = 0;
        let bounds = DURATION_BOUNDS.map(|micros| (micros as f64 / 1e6).to_string());
        let bounds = bounds.iter().map(String::as_str).chain(["+Inf"]);
        for (bound, count) in bounds.zip(durations.classes()) {
            sum += count;
            self.value(&format!("_bucket{{le=\"{bound}\"}}"), sum);
        }
        self.value("_sum", durations.seconds());
        self.value("_count", sum);
    }
}
