//! One try to write a batch of messages: what has to be known, who may, what is written, all in one transaction.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use log::warn;

use crate::frame::Frame;
use crate::hub::{Publication, Weight};
use crate::model::{AgentId, ChannelId, Conversation, Message, MessageId, Refusal, ThreadId};
use crate::protocol;
use crate::push::{self, Notice};
use crate::service::in_flight::Ticket;
use crate::service::notifications::{self, Kind, Subject};
use crate::service::repeats::{self, Key};
use crate::service::{Client, Service};
use crate::session::{Body, Post};
use crate::store::{
    Connection, Failure, Link, NewMessage, NewNotification, PostingContext, Result, Sender,
    StoreError,
};
use crate::text::{self, Tickets};

/// What `body_text` and `body_rendered_html` hold, in bytes.
const TEXT_COLUMN_BYTES: usize = 65_535;

/// A message that waits to be stored, and until when.
pub(super) struct Waiting {
    pub(super) from: Arc<dyn Client>,
    pub(super) post: Post,
    pub(super) deadline: Instant,
    /// Whoever takes it may answer.
    pub(super) ticket: Ticket,
}

/// A message with its id, and who is to be told.
pub(super) struct Stored {
    from: Arc<dyn Client>,
    pub(super) message: Message,
    pub(super) row: NewMessage,
    audience: Arc<[AgentId]>,
    reference: Option<protocol::Ref>,
}

/// What became of a batch: messages that were written, and those that were answered without, by their places.
#[derive(Default)]
pub(super) struct Written {
    pub(super) stored: Vec<(usize, Stored)>,
    pub(super) answered: Vec<(usize, Answer)>,
    /// Notifications that are new, where they are pushed as well.
    pub(super) notices: Vec<Notice>,
}

/// Why a message was not written.
pub(super) enum Answer {
    /// It may not be said.
    Refused(Refusal),
    /// It was sent before, and is stored already.
    Repeated(Box<Message>),
}

/// How one try to write a batch ended.
pub(super) enum Outcome {
    /// Committed.
    Done(Written),
    /// Nothing was stored.
    Failed(StoreError, Step),
    /// The connection was lost in the commit.
    Unknown(Written),
    /// Nothing was stored: a sender was told so meanwhile.
    Overtaken,
}

/// What was being done when a try failed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Message,
    Notification,
}

impl Stored {
    /// What the hub is told; `resume` where the sender still waits for his answer.
    pub(super) fn publication(self, resume: bool) -> Publication {
        let text = protocol::message_created(&self.message);
        let frame = Frame::text(&text);
        let own = self.reference.as_ref().map(|reference| {
            let own = Frame::text(&protocol::with_ref(text, Some(reference)));
            (self.from.id(), Some(own))
        });
        Publication {
            message: Some(self.message.id),
            audience: self.audience,
            frame,
            weight: Weight::Essential,
            own,
            resume: resume.then(|| self.from.subscriber()),
        }
    }
}

/// Tries once to write a batch.
pub(super) fn attempt(
    link: &mut Link,
    batch: &[Waiting],
    service: &Service,
    notify: bool,
) -> Outcome {
    let (written, lost) = match link.run(|store| write(store, batch, service, notify)) {
        Ok(written) => written,
        Err(error) => return Outcome::Failed(error, Step::Message),
    };
    if let Some(error) = lost {
        return Outcome::Failed(error, Step::Notification);
    }
    if written.stored.is_empty() {
        // Ends the snapshot that the reads of this batch opened.
        return match link.run(|store| store.rollback()) {
            Ok(()) => Outcome::Done(written),
            Err(error) => Outcome::Failed(error, Step::Message),
        };
    }
    let tickets: Vec<Ticket> = written
        .stored
        .iter()
        .map(|(place, _)| batch[*place].ticket)
        .collect();
    if !service.in_flight.set_committing(&tickets, true) {
        return Outcome::Overtaken;
    }
    match link.run(|store| store.commit()) {
        Ok(()) => Outcome::Done(written),
        Err(error) if error.failure == Failure::Lost => Outcome::Unknown(written),
        Err(error) => Outcome::Failed(error, Step::Message),
    }
}

/// Reads, decides and writes, all but the commit. Beside the result: a failure of the notifications that took the
/// transaction with it.
fn write(
    store: &mut dyn Connection,
    batch: &[Waiting],
    service: &Service,
    notify: bool,
) -> Result<(Written, Option<StoreError>)> {
    store.begin()?;
    let context = read_context(store, batch)?;
    let repeated = find_repeated(store, batch, service)?;
    let external_links = service.settings().external_links;
    let mut written = Written::default();
    let mut accepted = Vec::new();
    for (place, one) in batch.iter().enumerate() {
        match decide(store, &context, &one.post, external_links)? {
            Err(refusal) => written.answered.push((place, Answer::Refused(refusal))),
            Ok(row) => match repeated.get(&place) {
                Some(message) => {
                    let answer = Answer::Repeated(Box::new(message.clone()));
                    written.answered.push((place, answer));
                }
                None => accepted.push((place, row)),
            },
        }
    }
    if accepted.is_empty() {
        return Ok((written, None));
    }
    let rows: Vec<NewMessage> = accepted.iter().map(|(_, row)| row.clone()).collect();
    let ids = store.insert_messages(&rows)?;
    service.feed.claim(&ids);
    let mut threads = Vec::new();
    let mut audiences = HashMap::new();
    for ((place, row), id) in accepted.into_iter().zip(ids) {
        threads.extend(row.conversation.thread_id());
        let audience = audiences
            .entry(row.conversation)
            .or_insert_with(|| audience(&context, row.conversation));
        let stored = stored_message(id, row, &batch[place], &context, Arc::clone(audience));
        written.stored.push((place, stored));
    }
    if !threads.is_empty() {
        threads.sort_unstable();
        threads.dedup();
        store.touch_threads(&threads)?;
    }
    let mentioned = insert_mentions(store, batch, &written.stored)?;
    if notify {
        let rows = notifications(store, &context, &written.stored, &mentioned);
        match rows.and_then(|rows| insert_notifications(store, service, &rows)) {
            Ok(notices) => written.notices = notices,
            // A statement that failed alone leaves the message as it is; anything else took it along.
            Err(error) => match error.failure {
                Failure::Refused => {
                    warn!("{error}; the message is stored without notifying anybody");
                }
                Failure::Conflict => return Ok((written, Some(error))),
                Failure::Lost | Failure::Denied => return Err(error),
            },
        }
    }
    Ok((written, None))
}

/// What makes a message one that was sent before, if it has a `ref`.
pub(super) fn key(post: &Post) -> Option<Key> {
    let reference = post.reference.clone()?;
    Some((post.agent.id, post.conversation, reference))
}

/// Those of a batch that were sent before, by place, with what is stored of them.
fn find_repeated(
    store: &mut dyn Connection,
    batch: &[Waiting],
    service: &Service,
) -> Result<HashMap<usize, Message>> {
    let now = Instant::now();
    let mut found = HashMap::new();
    let mut unknown: HashMap<Key, usize> = HashMap::new();
    for (place, one) in batch.iter().enumerate() {
        let Some(key) = key(&one.post) else {
            continue;
        };
        match service.repeats.find(&key, now) {
            Some(id) => found.extend(store.messages(&[id])?.pop().map(|message| (place, message))),
            None => {
                unknown.insert(key, place);
            }
        }
    }
    let (false, Some(until)) = (unknown.is_empty(), service.repeats.unknown_until(now)) else {
        return Ok(found);
    };
    let senders: HashSet<AgentId> = unknown.keys().map(|(agent, ..)| *agent).collect();
    let senders: Vec<AgentId> = senders.into_iter().collect();
    let mut places = HashMap::new();
    for sent in store.recent_with_metadata(&senders, until, repeats::WINDOW.as_secs())? {
        if let Some(reference) = protocol::Ref::of_metadata(&sent.metadata_json)
            && let Some(place) = unknown.get(&(sent.sender, sent.conversation, reference))
        {
            places.insert(sent.id, *place);
        }
    }
    let ids: Vec<MessageId> = places.keys().copied().collect();
    let messages = store.messages(&ids)?.into_iter();
    found.extend(messages.filter_map(|message| Some((*places.get(&message.id)?, message))));
    Ok(found)
}

fn read_context(store: &mut dyn Connection, batch: &[Waiting]) -> Result<PostingContext> {
    let mut channels: Vec<ChannelId> = Vec::new();
    let mut threads: Vec<ThreadId> = Vec::new();
    let mut senders: Vec<AgentId> = Vec::new();
    for one in batch {
        channels.extend(one.post.conversation.channel_id());
        threads.extend(one.post.conversation.thread_id());
        senders.push(one.post.agent.id);
    }
    channels.sort_unstable();
    channels.dedup();
    threads.sort_unstable();
    threads.dedup();
    senders.sort_unstable();
    senders.dedup();
    store.posting_context(&channels, &threads, &senders)
}

/// The row of a message that may be said, or why it may not; the checks in the order of the contract.
fn decide(
    store: &mut dyn Connection,
    context: &PostingContext,
    post: &Post,
    external_links: bool,
) -> Result<std::result::Result<NewMessage, Refusal>> {
    if let Err(refusal) = may_post(context, post) {
        return Ok(Err(refusal));
    }
    let body = match &post.body {
        Ok(body) => body,
        Err(refusal) => return Ok(Err(*refusal)),
    };
    let html = render(store, body, external_links)?;
    if html.len() > TEXT_COLUMN_BYTES || body.text.len() > TEXT_COLUMN_BYTES {
        return Ok(Err(Refusal::MessageTooLarge));
    }
    Ok(Ok(NewMessage {
        conversation: post.conversation,
        sender: post.agent.id,
        body_text: body.text.clone(),
        body_rendered_html: html,
        metadata_json: post.reference.as_ref().map(protocol::Ref::metadata),
        created_at: context.now.clone(),
    }))
}

fn may_post(context: &PostingContext, post: &Post) -> std::result::Result<(), Refusal> {
    let sender = post.agent.id;
    match post.conversation {
        Conversation::Channel(id) => context
            .members
            .iter()
            .find(|member| member.channel == id && member.agent == sender)
            .filter(|member| member.can_post)
            .map(|_| ())
            .ok_or(Refusal::CannotPost),
        Conversation::Direct(id) => {
            let thread = context
                .threads
                .iter()
                .find(|thread| thread.id == id)
                .filter(|thread| {
                    thread
                        .agents
                        .iter()
                        .any(|(agent, is_active)| *agent == sender && *is_active)
                })
                .ok_or(Refusal::NoThreadAccess)?;
            match thread.agents.iter().all(|(_, is_active)| *is_active) {
                true => Ok(()),
                false => Err(Refusal::RecipientInactive),
            }
        }
    }
}

fn render(store: &mut dyn Connection, body: &Body, external_links: bool) -> Result<String> {
    let tickets = match body.references.is_empty() {
        true => Tickets::default(),
        false => Tickets::new(store.tickets(&body.references)?),
    };
    Ok(text::render(&body.text, external_links, &tickets))
}

fn stored_message(
    id: MessageId,
    row: NewMessage,
    waiting: &Waiting,
    context: &PostingContext,
    audience: Arc<[AgentId]>,
) -> Stored {
    let Waiting { from, post, .. } = waiting;
    let sender = context.senders.iter().find(|one| one.id == row.sender);
    Stored {
        from: Arc::clone(from),
        audience,
        reference: post.reference.clone(),
        message: Message {
            id,
            conversation: row.conversation,
            sender: row.sender,
            body_text: row.body_text.clone(),
            body_rendered_html: Some(row.body_rendered_html.clone()),
            metadata_json: row.metadata_json.clone(),
            created_at: row.created_at.clone(),
            edited_at: None,
            deleted_at: None,
            deleted_by: None,
            sender_name: sender.map_or_else(|| post.agent.name.clone(), |one| one.name.clone()),
            sender_chat_handle: sender.and_then(|one: &Sender| one.chat_handle.clone()),
        },
        row,
    }
}

fn audience(context: &PostingContext, conversation: Conversation) -> Arc<[AgentId]> {
    match conversation {
        Conversation::Channel(id) => context
            .members
            .iter()
            .filter(|member| member.channel == id)
            .map(|member| member.agent)
            .collect(),
        Conversation::Direct(id) => context
            .threads
            .iter()
            .filter(|thread| thread.id == id)
            .flat_map(|thread| thread.agents.iter().map(|(agent, _)| *agent))
            .collect(),
    }
}

/// Writes who was mentioned, and returns it by place in `stored`. The look-up is the database's, one for each
/// message: which handles are equal only its collation knows.
fn insert_mentions(
    store: &mut dyn Connection,
    batch: &[Waiting],
    stored: &[(usize, Stored)],
) -> Result<Vec<Vec<AgentId>>> {
    let mut mentioned = Vec::new();
    let mut rows = Vec::new();
    for (place, one) in stored {
        let agents = match &batch[*place].post.body {
            Ok(body) if !body.mentions.is_empty() => store.agents_by_handle(&body.mentions)?,
            _ => Vec::new(),
        };
        rows.extend(agents.iter().map(|agent| (one.message.id, *agent)));
        mentioned.push(agents);
    }
    if !rows.is_empty() {
        store.insert_mentions(&rows)?;
    }
    Ok(mentioned)
}

/// The rows of those who are notified.
fn notifications(
    store: &mut dyn Connection,
    context: &PostingContext,
    stored: &[(usize, Stored)],
    mentioned: &[Vec<AgentId>],
) -> Result<Vec<NewNotification>> {
    let candidates: Vec<Vec<(AgentId, Kind)>> = stored
        .iter()
        .zip(mentioned)
        .map(|((_, one), mentioned)| candidates(context, &one.message, mentioned))
        .collect();
    let agents: HashSet<AgentId> = candidates
        .iter()
        .flatten()
        .map(|(agent, _)| *agent)
        .collect();
    if agents.is_empty() {
        return Ok(Vec::new());
    }
    let agents: Vec<AgentId> = agents.into_iter().collect();
    let preferences: HashMap<AgentId, Option<String>> = store
        .notification_preferences(&agents)?
        .into_iter()
        .collect();
    let rows = stored
        .iter()
        .zip(&candidates)
        .flat_map(|((_, one), candidates)| {
            let subject = Subject {
                message: one.message.id,
                conversation: one.message.conversation,
                sender: one.message.sender,
                sender_name: &one.message.sender_name,
                body_text: &one.message.body_text,
            };
            notifications::rows(&subject, candidates, &preferences)
        });
    Ok(rows.collect())
}

/// Writes notifications. Where they are pushed as well: what is to be pushed, which are those that are new.
fn insert_notifications(
    store: &mut dyn Connection,
    service: &Service,
    rows: &[NewNotification],
) -> Result<Vec<Notice>> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let is_pushing = service.push.as_ref().is_some_and(push::Queue::is_wanted);
    if is_pushing && let Some(store) = store.push() {
        let new = store.insert_new_notifications(rows)?;
        return Ok(new
            .into_iter()
            .map(|place| Notice::from(&rows[place]))
            .collect());
    }
    store.insert_notifications(rows)?;
    Ok(Vec::new())
}

fn candidates(
    context: &PostingContext,
    message: &Message,
    mentioned: &[AgentId],
) -> Vec<(AgentId, Kind)> {
    match message.conversation {
        Conversation::Channel(id) => {
            let members: Vec<_> = context
                .members
                .iter()
                .filter(|member| member.channel == id)
                .collect();
            notifications::channel_candidates(&members, mentioned, message.sender)
        }
        Conversation::Direct(id) => context
            .threads
            .iter()
            .find(|thread| thread.id == id)
            .map(|thread| notifications::direct_candidates(thread, message.sender))
            .unwrap_or_default(),
    }
}
