//! The demo's HTTP pages: the page's files and its API. The server issues tokens without a login, so it must not answer
//! foreign pages: the `Host` must be a name of this machine, and requests that return a token or change anything must
//! come from a page of the same origin.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use log::error;
use serde::Deserialize;
use serde_json::{Value, json};

use super::http::{PageResponse, is_loopback};
use super::panel;
use crate::admin::control::ControlRequest;
use crate::admin::token;
use crate::config::settings::Settings;
use crate::http::{Site, SiteRequest};
use crate::model::{AgentId, Conversation, MessageId, Unread};
use crate::protocol;
use crate::store::sqlite::SqliteStore;
use crate::store::{DatabaseConnection, PageLimit, Result, Store};
use crate::websocket::Server;

/// Lifetime of a token in seconds: enough to open a socket, which the page does at once.
const TOKEN_SECONDS: u64 = 60;
/// Most messages of each conversation in the state with which a page begins.
const MESSAGES_AT_FIRST: usize = 50;
/// Most bytes of these messages.
const BYTES_AT_FIRST: usize = 1024 * 1024;

/// The files of the page: path, type, content.
const FILES: &[(&str, &str, &str)] = &[
    ("/", HTML, include_str!("page/index.html")),
    ("/icon.svg", "image/svg+xml", include_str!("page/icon.svg")),
    ("/style.css", CSS, include_str!("page/style.css")),
    ("/messages.css", CSS, include_str!("page/messages.css")),
    ("/finder.css", CSS, include_str!("page/finder.css")),
    ("/panel.css", CSS, include_str!("page/panel.css")),
    (
        "/andrea-chat.js",
        JS,
        include_str!("../../contrib/client/andrea-chat.js"),
    ),
    ("/app.js", JS, include_str!("page/app.js")),
    ("/body.js", JS, include_str!("page/body.js")),
    ("/finder.js", JS, include_str!("page/finder.js")),
    ("/notify.js", JS, include_str!("page/notify.js")),
    ("/people.js", JS, include_str!("page/people.js")),
    ("/composer.js", JS, include_str!("page/composer.js")),
    ("/dom.js", JS, include_str!("page/dom.js")),
    ("/emoji.js", JS, include_str!("page/emoji.js")),
    ("/link.js", JS, include_str!("page/link.js")),
    ("/messages.js", JS, include_str!("page/messages.js")),
    ("/model.js", JS, include_str!("page/model.js")),
    ("/panel.js", JS, include_str!("page/panel.js")),
    ("/safe_html.js", JS, include_str!("page/safe_html.js")),
    ("/server.js", JS, include_str!("page/server.js")),
    ("/sidebar.js", JS, include_str!("page/sidebar.js")),
    ("/times.js", JS, include_str!("page/times.js")),
];
const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";

/// The site of one demo; it lives as long as the process and survives every stop and start of the service.
pub struct DemoSite {
    secret: String,
    address: String,
    database: Mutex<DatabaseConnection>,
    running: Mutex<Weak<Server>>,
}

impl DemoSite {
    /// A site over this database; the panel shows `address`.
    ///
    /// # Errors
    /// The database cannot be opened.
    pub fn new(store: &SqliteStore, secret: String, address: String) -> Result<Arc<Self>> {
        Ok(Arc::new(DemoSite {
            secret,
            address,
            database: Mutex::new(store.connect()?),
            running: Mutex::default(),
        }))
    }

    /// Sets the server whose sockets are counted from now on.
    pub fn attach(&self, server: &Arc<Server>) {
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(server);
    }

    /// The listen address.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// The numbers of authenticated sockets, and of agents with at least one.
    pub(super) fn sockets(&self) -> (usize, usize) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.upgrade().map_or((0, 0), |server| {
            let agents = server.chat().hub.local_agents().len();
            (server.authenticated(), agents)
        })
    }

    /// Runs `work` on the database; a failure becomes a 503 response.
    pub(super) fn with_database(
        &self,
        work: impl FnOnce(&mut DatabaseConnection) -> Result<PageResponse>,
    ) -> PageResponse {
        let mut database = self.database.lock().unwrap_or_else(PoisonError::into_inner);
        work(&mut database).unwrap_or_else(|failed| {
            error!("{failed}");
            let status = "503 Service Unavailable";
            PageResponse::refusal(status, "the database cannot be asked now")
        })
    }

    /// The same for the active agent that a request's body names.
    pub(super) fn for_agent(
        &self,
        body: &[u8],
        work: impl FnOnce(&mut DatabaseConnection, AgentId) -> Result<PageResponse>,
    ) -> PageResponse {
        #[derive(Deserialize)]
        struct Body {
            agent: u64,
        }
        let Ok(Body { agent }) = serde_json::from_slice(body) else {
            return PageResponse::refusal("400 Bad Request", "which agent?");
        };
        self.with_database(|database| match database.active_agent(AgentId(agent))? {
            Some(_) => work(database, AgentId(agent)),
            None => Ok(no_agent()),
        })
    }

    fn route(&self, request: &SiteRequest<'_>, host: &str) -> Option<PageResponse> {
        let file = FILES.iter().find(|(path, ..)| *path == request.path);
        let allowed = match (request.path, file) {
            (_, Some(_)) | ("/demo/state" | "/demo/service", _) => "GET",
            ("/demo/token" | "/demo/threads", _) => "POST",
            (path, _) if path.starts_with("/demo/service/") => "POST",
            _ => return None,
        };
        if allowed != request.method {
            return Some(PageResponse::method(match allowed {
                "GET" => "Allow: GET, HEAD\r\n",
                _ => "Allow: POST\r\n",
            }));
        }
        if allowed == "POST" && !is_own_page(request.origin, host) {
            let why = "only a page of this address may ask for this";
            return Some(PageResponse::refusal("403 Forbidden", why));
        }
        if let Some((_, content_type, content)) = file {
            return Some(PageResponse::file(content_type, content.as_bytes()));
        }
        let press = |wanted| panel::press(self, wanted, request.body);
        match request.path {
            "/demo/state" => Some(self.state(request.query)),
            "/demo/token" => Some(self.token(request.body)),
            "/demo/threads" => Some(self.thread(request.body)),
            "/demo/service" => Some(panel::status(self)),
            "/demo/service/settings" => Some(panel::set(self, request.body)),
            "/demo/service/start" => Some(press(ControlRequest::Start)),
            "/demo/service/stop" => Some(press(ControlRequest::Stop)),
            "/demo/service/restart" => Some(press(ControlRequest::Restart)),
            _ => None,
        }
    }

    /// A token for an agent, good for a minute.
    fn token(&self, body: &[u8]) -> PageResponse {
        self.for_agent(body, |_, agent| {
            Ok(
                match token::signed(&self.secret, agent, "agent", TOKEN_SECONDS) {
                    Ok(token) => {
                        PageResponse::ok(&json!({ "token": token, "expires_in": TOKEN_SECONDS }))
                    }
                    Err(reason) => {
                        error!("{reason}");
                        PageResponse::refusal("500 Internal Server Error", "no token could be made")
                    }
                },
            )
        })
    }

    /// The direct thread of two agents, created if there is none: in an install the helpdesk does that, not the service.
    fn thread(&self, body: &[u8]) -> PageResponse {
        #[derive(Deserialize)]
        struct Body {
            agent: u64,
            with: u64,
        }
        let Ok(Body { agent, with }) = serde_json::from_slice(body) else {
            return PageResponse::refusal("400 Bad Request", "which two agents?");
        };
        let agents = [AgentId(agent.min(with)), AgentId(agent.max(with))];
        self.with_database(|database| {
            for agent in agents {
                if agents[0] == agents[1] || database.active_agent(agent)?.is_none() {
                    return Ok(no_agent());
                }
            }
            let threads = database.threads_of(agents[0])?;
            let id = match threads.iter().find(|thread| thread.agents == agents) {
                Some(thread) => thread.id,
                None => database.insert_thread(agents[0], agents[1])?,
            };
            Ok(PageResponse::ok(&json!({ "id": id.0 })))
        })
    }

    /// All agents and, if the query names one, the conversations that it may read.
    fn state(&self, query: &str) -> PageResponse {
        let agent = parameter(query, "agent").and_then(|id| id.parse().ok());
        self.with_database(|database| {
            let settings = Settings::from_rows(&database.settings()?);
            let mut state = json!({
                "server_time": database.minutes_ago(0)?,
                "chat_enabled": settings.chat_enabled,
                "max_message_length": settings.max_message_chars,
                "agents": database.agents()?.iter().map(|agent| json!({
                    "id": agent.id.0,
                    "name": agent.name,
                    "handle": agent.chat_handle,
                    "role": agent.role,
                    "is_active": agent.is_active,
                })).collect::<Vec<_>>(),
            });
            if let Some(agent) = agent.map(AgentId) {
                // Counted before the messages are read: one that arrives in between is loaded, and not counted twice.
                let unread = database.unread(agent)?;
                state["channels"] = channels(database, agent, &unread)?;
                state["threads"] = threads(database, agent, &unread)?;
            }
            Ok(PageResponse::ok(&state))
        })
    }
}

impl Site for Arc<DemoSite> {
    fn answer(&self, request: &SiteRequest<'_>) -> Option<Vec<u8>> {
        let Some(host) = request.host.filter(|host| is_loopback(host)) else {
            let why = "open this page by the address that the demo has printed";
            let refusal = PageResponse::refusal("403 Forbidden", why);
            return Some(refusal.bytes("localhost"));
        };
        let response = self.route(request, host)?;
        Some(response.bytes(host))
    }
}

/// Whether a request comes from a page of the same origin. Browsers send `Origin` with every POST.
fn is_own_page(origin: Option<&str>, host: &str) -> bool {
    origin
        .and_then(|origin| origin.strip_prefix("http://"))
        .is_some_and(|origin| origin.eq_ignore_ascii_case(host))
}

fn parameter<'q>(query: &'q str, name: &str) -> Option<&'q str> {
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .find_map(|(key, value)| (key == name).then_some(value))
}

fn no_agent() -> PageResponse {
    PageResponse::refusal("404 Not Found", "there is no such agent")
}

fn channels(database: &mut DatabaseConnection, agent: AgentId, unread: &[Unread]) -> Result<Value> {
    let mut channels = Vec::new();
    for channel in database.channels_of(agent)? {
        let conversation = Conversation::Channel(channel.id);
        let mut row = room(database, conversation, &channel.markers, unread)?;
        row["id"] = channel.id.0.into();
        row["name"] = channel.name.into();
        row["description"] = channel.description.into();
        let mut posting = channel.members.iter().filter(|one| one.can_post);
        row["can_post"] = posting.any(|one| one.agent == agent).into();
        row["members"] = channel
            .members
            .iter()
            .map(|one| json!({ "agent_id": one.agent.0, "can_post": one.can_post }))
            .collect();
        channels.push(row);
    }
    Ok(channels.into())
}

fn threads(database: &mut DatabaseConnection, agent: AgentId, unread: &[Unread]) -> Result<Value> {
    let mut threads = Vec::new();
    for thread in database.threads_of(agent)? {
        let conversation = Conversation::Direct(thread.id);
        let mut row = room(database, conversation, &thread.markers, unread)?;
        row["id"] = thread.id.0.into();
        row["agent_ids"] = thread.agents.iter().map(|agent| agent.0).collect();
        threads.push(row);
    }
    Ok(threads.into())
}

/// The members that channels and threads share. Each message is in the form of the event that would have carried it.
fn room(
    database: &mut DatabaseConnection,
    conversation: Conversation,
    markers: &[(AgentId, MessageId)],
    unread: &[Unread],
) -> Result<Value> {
    let room = PageLimit {
        messages: MESSAGES_AT_FIRST,
        bytes: BYTES_AT_FIRST,
    };
    let found = database.history(conversation, None, room)?;
    let events = found.messages.iter().map(protocol::message_created);
    let events: Vec<Value> = events
        .filter_map(|event| serde_json::from_str(&event).ok())
        .collect();
    let unread = unread.iter().find(|one| one.conversation == conversation);
    Ok(json!({
        "unread": unread.map_or(0, |one| one.unread),
        "reads": markers.iter().map(|(reader, id)| json!({
            "agent_id": reader.0,
            "last_read_message_id": id.0,
        })).collect::<Vec<_>>(),
        "has_older": found.has_older,
        "messages": events,
    }))
}
