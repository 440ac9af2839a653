//! The one thread that stores messages. It takes everything that waits, writes it in one transaction and
//! publishes it, in the order of the ids, only after the commit; so one commit serves many messages exactly when
//! many wait, and no two readers can see two orders.
//!
//! Nothing is lost and nothing is written twice: until the commit was asked for, a lost connection means that
//! nothing was stored; when it is lost in the commit, the thread looks before it writes again.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use log::{error, warn};

use super::notifications::{self, Kind, Subject};
use super::queries::refusal;
use super::{Client, PostJob, Service};
use crate::frame::Frame;
use crate::hub::{Publication, Weight};
use crate::job_queue::Taken;
use crate::model::{AgentId, ChannelId, Conversation, Message, MessageId, Refusal, ThreadId};
use crate::protocol;
use crate::session::{Body, Post};
use crate::store::{
    Connection, Failure, Link, NewMessage, NewNotification, PostingContext, Result, Sender,
    StoreError,
};
use crate::text::{self, Tickets};

/// Messages of one transaction; more would make the first of them wait for nothing.
const BATCH: usize = 256;
/// Bodies of one transaction, in bytes: with its HTML a batch stays far below the smallest `max_allowed_packet`.
const BATCH_BYTES: usize = 256 * 1024;
/// What `body_text` and `body_rendered_html` hold, in bytes.
const TEXT_COLUMN_BYTES: usize = 65_535;
/// Pause before a transaction that failed is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// Stores messages until the queue is closed and empty.
pub fn run(service: &Service, link: Link) {
    let mut poster = Poster { service, link };
    loop {
        match service.posts.take(BATCH, None) {
            Taken::Jobs(jobs) => poster.store_all(jobs),
            Taken::Nothing => {}
            Taken::Closed => return,
        }
    }
}

struct Poster<'a> {
    service: &'a Service,
    link: Link,
}

struct Waiting {
    from: Arc<dyn Client>,
    post: Post,
    deadline: Instant,
}

/// A message with its id, and who is to be told.
struct Stored {
    from: Arc<dyn Client>,
    message: Message,
    row: NewMessage,
    audience: Arc<[AgentId]>,
    reference: Option<protocol::Ref>,
}

/// How one try to write a batch ended.
enum Outcome {
    /// Committed; and who was refused, by place in the batch.
    Done(Vec<(usize, Stored)>, Vec<(usize, Refusal)>),
    /// Nothing was stored.
    Failed(StoreError, Step),
    /// The connection was lost in the commit.
    Unknown(Vec<(usize, Stored)>, Vec<(usize, Refusal)>),
}

/// What was being done when a try failed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Message,
    Notification,
}

impl Poster<'_> {
    fn store_all(&mut self, jobs: Vec<(Instant, PostJob)>) {
        let mut batch = Vec::with_capacity(jobs.len());
        let mut bytes = 0;
        for (deadline, PostJob { from, post }) in jobs {
            let size = post.body.as_ref().map_or(0, |body| body.text.len());
            if bytes + size > BATCH_BYTES && !batch.is_empty() {
                self.store(std::mem::take(&mut batch));
                bytes = 0;
            }
            bytes += size;
            batch.push(Waiting {
                from,
                post,
                deadline,
            });
        }
        self.store(batch);
    }

    fn store(&mut self, mut batch: Vec<Waiting>) {
        let mut notify = true;
        while !batch.is_empty() {
            match attempt(&mut self.link, &batch, self.service, notify) {
                Outcome::Done(stored, refused) => return self.finish(batch, stored, refused),
                Outcome::Unknown(stored, refused) => {
                    return self.find_out(batch, stored, refused);
                }
                Outcome::Failed(error, step) => {
                    self.roll_back();
                    self.service.feed.void_claims();
                    if step == Step::Notification {
                        warn!("{error}; the message is stored without notifying anybody");
                        notify = false;
                        continue;
                    }
                    if error.failure == Failure::Refused {
                        return self.store_each(batch, &error);
                    }
                    batch = self.refuse_late(batch, refusal(&error));
                    thread::sleep(RETRY_PAUSE);
                }
            }
        }
    }

    /// A message that the server refuses must not spoil those that happened to wait with it.
    fn store_each(&mut self, batch: Vec<Waiting>, error: &StoreError) {
        if let [only] = &batch[..] {
            error!("{error}");
            let refusal = Refusal::Internal;
            self.service.refuse(
                Arc::clone(&only.from),
                refusal,
                only.post.reference.as_ref(),
            );
            return;
        }
        for one in batch {
            self.store(vec![one]);
        }
    }

    fn roll_back(&mut self) {
        // A connection that cannot even roll back is given up; the server then does it by itself.
        if self.link.is_connected() && self.link.run(|store| store.rollback()).is_err() {
            self.link.drop_connection();
        }
    }

    /// Refuses those whose time is over; the others are tried again.
    fn refuse_late(&self, batch: Vec<Waiting>, refusal: Refusal) -> Vec<Waiting> {
        let now = Instant::now();
        let (late, left): (Vec<_>, Vec<_>) = batch.into_iter().partition(|one| one.deadline <= now);
        for one in late {
            self.service
                .refuse(one.from, refusal, one.post.reference.as_ref());
        }
        left
    }

    fn finish(
        &self,
        batch: Vec<Waiting>,
        stored: Vec<(usize, Stored)>,
        refused: Vec<(usize, Refusal)>,
    ) {
        for (place, refusal) in refused {
            let one = &batch[place];
            self.service
                .refuse(Arc::clone(&one.from), refusal, one.post.reference.as_ref());
        }
        let publications = stored
            .into_iter()
            .map(|(_, one)| (one.message.id, publication(one)))
            .collect();
        self.service.feed.publish(&self.service.hub, publications);
    }

    /// The connection went away between the commit and its answer: asks, on a new one, what became of it.
    fn find_out(
        &mut self,
        batch: Vec<Waiting>,
        stored: Vec<(usize, Stored)>,
        refused: Vec<(usize, Refusal)>,
    ) {
        warn!(
            "the connection to the database was lost in a commit of {} messages; looking whether they were stored",
            stored.len()
        );
        let deadline = batch
            .iter()
            .map(|one| one.deadline)
            .max()
            .unwrap_or_else(Instant::now);
        let rows: Vec<(MessageId, &NewMessage)> = stored
            .iter()
            .map(|(_, one)| (one.message.id, &one.row))
            .collect();
        match self
            .link
            .run_until(deadline, |store| store.were_committed(&rows))
        {
            Ok(true) => self.finish(batch, stored, refused),
            Ok(false) => {
                self.service.feed.void_claims();
                self.store(batch);
            }
            Err(error) => {
                error!("{error}; their senders are told that the outcome is unknown");
                // If they were stored after all they are shown late, like anybody else's.
                self.service.feed.release_claims();
                for (place, _) in stored {
                    let waiting = &batch[place];
                    self.service.refuse(
                        Arc::clone(&waiting.from),
                        Refusal::OutcomeUnknown,
                        waiting.post.reference.as_ref(),
                    );
                }
                self.finish(batch, Vec::new(), refused);
            }
        }
    }
}

fn publication(stored: Stored) -> Publication {
    let text = protocol::message_created(&stored.message);
    let frame = Frame::text(&text);
    let own = stored.reference.as_ref().map(|reference| {
        let own = Frame::text(&protocol::with_ref(text, Some(reference)));
        (stored.from.id(), Some(own))
    });
    Publication {
        audience: stored.audience,
        frame,
        weight: Weight::Essential,
        own,
        resume: Some(stored.from.subscriber()),
    }
}

fn attempt(link: &mut Link, batch: &[Waiting], service: &Service, notify: bool) -> Outcome {
    let prepared = link.run(|store| prepare(store, batch, service, notify));
    let (prepared, step) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => return Outcome::Failed(error, Step::Message),
    };
    if let Some(error) = step {
        return Outcome::Failed(error, Step::Notification);
    }
    let (stored, refused) = prepared;
    if stored.is_empty() {
        // Ends the snapshot that the reads of this batch opened.
        return match link.run(|store| store.rollback()) {
            Ok(()) => Outcome::Done(stored, refused),
            Err(error) => Outcome::Failed(error, Step::Message),
        };
    }
    match link.run(|store| store.commit()) {
        Ok(()) => Outcome::Done(stored, refused),
        Err(error) if error.failure == Failure::Lost => Outcome::Unknown(stored, refused),
        Err(error) => Outcome::Failed(error, Step::Message),
    }
}

type Prepared = (Vec<(usize, Stored)>, Vec<(usize, Refusal)>);

/// Reads, decides and writes, all but the commit. Beside the result: a failure of the notifications that took
/// the transaction with it.
fn prepare(
    store: &mut dyn Connection,
    batch: &[Waiting],
    service: &Service,
    notify: bool,
) -> Result<(Prepared, Option<StoreError>)> {
    store.begin()?;
    let context = read_context(store, batch)?;
    let external_links = service.settings().external_links;
    let mut refused = Vec::new();
    let mut accepted = Vec::new();
    for (place, one) in batch.iter().enumerate() {
        match decide(store, &context, &one.post, external_links)? {
            Ok(row) => accepted.push((place, row)),
            Err(refusal) => refused.push((place, refusal)),
        }
    }
    if accepted.is_empty() {
        return Ok(((Vec::new(), refused), None));
    }
    let rows: Vec<NewMessage> = accepted.iter().map(|(_, row)| row.clone()).collect();
    let ids = store.insert_messages(&rows)?;
    service.feed.claim(&ids);
    let mut stored = Vec::new();
    let mut threads = Vec::new();
    for ((place, row), id) in accepted.into_iter().zip(ids) {
        let post = &batch[place].post;
        threads.extend(row.conversation.thread_id());
        stored.push((place, stored_message(id, row, batch, place, &context, post)));
    }
    if !threads.is_empty() {
        threads.sort_unstable();
        threads.dedup();
        store.touch_threads(&threads)?;
    }
    let mentioned = insert_mentions(store, batch, &stored)?;
    if notify && let Err(error) = insert_notifications(store, &context, &stored, &mentioned) {
        // A statement that failed alone leaves the message as it is; anything else took it along.
        match error.failure {
            Failure::Refused => warn!("{error}; the message is stored without notifying anybody"),
            Failure::Conflict => return Ok(((stored, refused), Some(error))),
            Failure::Lost | Failure::Denied => return Err(error),
        }
    }
    Ok(((stored, refused), None))
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
            .filter(|member| member.can_post && member.is_active)
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
    batch: &[Waiting],
    place: usize,
    context: &PostingContext,
    post: &Post,
) -> Stored {
    let sender = context.senders.iter().find(|one| one.id == row.sender);
    Stored {
        from: Arc::clone(&batch[place].from),
        audience: audience(context, row.conversation),
        reference: post.reference.clone(),
        message: Message {
            id,
            conversation: row.conversation,
            sender: row.sender,
            body_text: row.body_text.clone(),
            body_rendered_html: Some(row.body_rendered_html.clone()),
            metadata_json: None,
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

fn insert_notifications(
    store: &mut dyn Connection,
    context: &PostingContext,
    stored: &[(usize, Stored)],
    mentioned: &[Vec<AgentId>],
) -> Result<()> {
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
        return Ok(());
    }
    let agents: Vec<AgentId> = agents.into_iter().collect();
    let preferences: HashMap<AgentId, Option<String>> = store
        .notification_preferences(&agents)?
        .into_iter()
        .collect();
    let rows: Vec<NewNotification> = stored
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
        })
        .collect();
    if rows.is_empty() {
        return Ok(());
    }
    store.insert_notifications(&rows)
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
