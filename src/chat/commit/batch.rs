//! One attempt to write a batch of messages in one transaction: read the context, check permissions, insert.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;

use log::warn;

use crate::chat::dedup::{self, IdempotencyKey};
use crate::chat::pending::DoneGuard;
use crate::chat::{Chat, PendingPost};
use crate::hub::{Publication, Weight};
use crate::model::{AgentId, Conversation, Message, MessageId, Refusal};
use crate::notifications;
use crate::protocol;
use crate::protocol::frame::Frame;
use crate::session::Post;
use crate::store::{
    DatabaseConnection, Failure, Lent, NewMessage, NewNotification, PostingContext, Result,
    StoreError,
};
use crate::text::{self, Tickets};

/// Most bytes that the columns `body_text` and `body_rendered_html` hold.
const TEXT_COLUMN_BYTES: usize = 65_535;

/// Only so many handles of a message are looked up, the first ones: each message with mentions costs a query.
const MAX_MENTIONS: usize = 50;

/// A message that waits to be stored.
pub(super) struct Waiting {
    pub(super) pending: Arc<PendingPost>,
    pub(super) post: Post,
}

/// A message with its id and its audience.
pub(super) struct Stored {
    pub(super) message: Message,
    audience: Arc<[AgentId]>,
    reference: Option<protocol::Ref>,
}

/// What became of a batch: the messages that were written, and those that were not, each with its place in the batch.
#[derive(Default)]
pub(super) struct BatchResult {
    pub(super) stored: Vec<(usize, Stored)>,
    pub(super) answered: Vec<(usize, Unwritten)>,
    /// The new notifications, if they are pushed as well.
    pub(super) notices: Vec<NewNotification>,
}

/// Why a message was not written.
pub(super) enum Unwritten {
    /// It is refused.
    Refused(Refusal),
    /// It was sent before, and is stored already.
    Repeated(Box<Message>),
}

/// How one try to write a batch ended.
pub(super) enum AttemptOutcome {
    /// Committed.
    Done(BatchResult),
    /// Nothing was stored.
    Failed(StoreError),
    /// The connection was lost in the commit.
    Unknown(BatchResult),
    /// Not committed, because a sender was told meanwhile that nothing was saved.
    Overtaken,
}

impl Stored {
    /// What the hub is told. `pending` is done once that is in the hub's channel.
    pub(super) fn publication(self, pending: &Arc<PendingPost>) -> Publication {
        let text = protocol::message_created(&self.message);
        let frame = Frame::text(&text);
        let own = self.reference.as_ref().map(|reference| {
            let own = Frame::text(&protocol::with_ref(text, Some(reference)));
            (pending.from.id(), Some(own))
        });
        Publication {
            message: Some(self.message.id),
            committed: Some(Instant::now()),
            own,
            done: Some(Box::new(DoneGuard(Arc::clone(pending)))),
            ..Publication::new(self.audience, frame, Weight::Essential)
        }
    }
}

/// Tries once to write a batch. Clears `may_notify` if the notifications made the transaction fail.
pub(super) fn attempt(
    lent: &mut Lent<'_>,
    batch: &[Waiting],
    chat: &Chat,
    may_notify: &mut bool,
) -> AttemptOutcome {
    let written = match lent.run(|store| write(store, batch, chat, may_notify)) {
        Ok(written) => written,
        Err(error) => return AttemptOutcome::Failed(error),
    };
    if written.stored.is_empty() {
        // Ends the snapshot that the reads of this batch opened.
        return match lent.run(|store| store.rollback()) {
            Ok(()) => AttemptOutcome::Done(written),
            Err(error) => AttemptOutcome::Failed(error),
        };
    }
    let mut stored = written.stored.iter();
    if stored.any(|(place, _)| batch[*place].pending.begin_commit().is_err()) {
        return AttemptOutcome::Overtaken;
    }
    match lent.run(|store| store.commit()) {
        Ok(()) => AttemptOutcome::Done(written),
        Err(error) => match error.failure {
            Failure::Lost | Failure::Stale | Failure::TookTooLong => {
                AttemptOutcome::Unknown(written)
            }
            _ => AttemptOutcome::Failed(error),
        },
    }
}

/// Everything before the commit: reads, decides, writes.
fn write(
    store: &mut DatabaseConnection,
    batch: &[Waiting],
    chat: &Chat,
    may_notify: &mut bool,
) -> Result<BatchResult> {
    store.begin()?;
    let sent_again = batch.iter().filter(|one| one.post.reference.is_some());
    let senders = distinct(sent_again.map(|one| (one.post.conversation, one.post.agent.id)));
    if !senders.is_empty() {
        store.lock_senders(&senders)?;
    }
    let context = read_context(store, batch)?;
    let repeated = find_repeated(store, batch, chat)?;
    let external_links = chat.settings().external_links;
    let mut written = BatchResult::default();
    let mut accepted = Vec::new();
    for (place, one) in batch.iter().enumerate() {
        let decision = decide(store, &context, &one.post, external_links)?;
        let answer = match (decision, repeated.get(&place)) {
            (PostDecision::Write(row), None) => {
                accepted.push((place, row));
                continue;
            }
            (PostDecision::Write(_), Some(message)) => {
                Unwritten::Repeated(Box::new(message.clone()))
            }
            (PostDecision::Refuse(refusal), _) => Unwritten::Refused(refusal),
        };
        written.answered.push((place, answer));
    }
    if accepted.is_empty() {
        return Ok(written);
    }
    let (places, rows): (Vec<usize>, Vec<NewMessage>) = accepted.into_iter().unzip();
    let ids = store.insert_messages(&rows)?;
    chat.feed.claim(&ids);
    let mut threads = Vec::new();
    let mut audiences: HashMap<Conversation, Arc<[AgentId]>> = HashMap::new();
    for ((place, row), id) in places.into_iter().zip(rows).zip(ids) {
        threads.extend(row.conversation.thread_id());
        let audience = audiences
            .entry(row.conversation)
            .or_insert_with(|| context.audience(row.conversation).into());
        let post = &batch[place].post;
        let sender = context.senders.iter().find(|one| one.id == row.sender);
        let name = sender.map_or(&post.agent.name, |one| &one.name);
        let handle = sender.and_then(|one| one.chat_handle.clone());
        let stored = Stored {
            message: row.stored(id, name.clone(), handle),
            audience: Arc::clone(audience),
            reference: post.reference.clone(),
        };
        written.stored.push((place, stored));
    }
    if !threads.is_empty() {
        store.touch_threads(&distinct(threads.into_iter()))?;
    }
    let mentioned = insert_mentions(store, batch, &written.stored)?;
    if *may_notify {
        let messages = written.stored.iter().map(|(_, one)| &one.message);
        match notifications::insert(
            store,
            chat.push.as_ref(),
            &context,
            messages.zip(&mentioned),
        ) {
            Ok(notices) => written.notices = notices,
            // If only the statement failed, the transaction goes on; any other failure ends it.
            Err(error) if matches!(error.failure, Failure::Refused | Failure::TooLarge) => {
                warn!("{error}; the message is stored without notifying anyone");
            }
            Err(error) => {
                *may_notify = !matches!(error.failure, Failure::Conflict | Failure::TookTooLong);
                return Err(error);
            }
        }
    }
    Ok(written)
}

/// What identifies a message that is sent again; `None` without a `ref`.
pub(super) fn key(post: &Post) -> Option<IdempotencyKey> {
    let reference = post.reference.clone()?;
    Some((post.agent.id, post.conversation, reference))
}

/// The messages of a batch that were sent before, as stored, by their places.
fn find_repeated(
    store: &mut DatabaseConnection,
    batch: &[Waiting],
    chat: &Chat,
) -> Result<HashMap<usize, Message>> {
    let now = Instant::now();
    let mut places: HashMap<MessageId, usize> = HashMap::new();
    let mut unknown: HashMap<IdempotencyKey, usize> = HashMap::new();
    for (place, one) in batch.iter().enumerate() {
        let Some(key) = key(&one.post) else {
            continue;
        };
        match chat.dedup.find(&key, now) {
            Some(id) => places.insert(id, place),
            None => unknown.insert(key, place),
        };
    }
    if !unknown.is_empty() {
        let until = chat.dedup.unknown_until(now).unwrap_or(MessageId(0));
        // What another daemon stored a moment ago may not have gone through this feed yet.
        let above = chat.feed.low_watermark();
        let senders = distinct(unknown.keys().map(|(agent, ..)| *agent));
        let seconds = dedup::WINDOW.as_secs();
        for sent in store.recent_with_metadata(&senders, until, above, seconds)? {
            if let Some(reference) = protocol::Ref::of_metadata(&sent.metadata_json)
                && let Some(place) = unknown.get(&(sent.sender, sent.conversation, reference))
            {
                places.insert(sent.id, *place);
            }
        }
    }
    let ids: Vec<MessageId> = places.keys().copied().collect();
    let messages = store.messages(&ids)?.into_iter();
    let found = messages.filter_map(|message| Some((*places.get(&message.id)?, message)));
    Ok(found.collect())
}

fn read_context(store: &mut DatabaseConnection, batch: &[Waiting]) -> Result<PostingContext> {
    let posts = || batch.iter().map(|one| &one.post);
    let channels = posts().filter_map(|post| post.conversation.channel_id());
    let threads = posts().filter_map(|post| post.conversation.thread_id());
    let senders = posts().map(|post| post.agent.id);
    store.posting_context(&distinct(channels), &distinct(threads), &distinct(senders))
}

/// Without duplicates, sorted.
fn distinct<T: Ord>(all: impl Iterator<Item = T>) -> Vec<T> {
    all.collect::<BTreeSet<T>>().into_iter().collect()
}

/// What becomes of a message.
enum PostDecision {
    Write(NewMessage),
    Refuse(Refusal),
}

/// Decides whether a message is stored. The checks are in the order of the contract.
fn decide(
    store: &mut DatabaseConnection,
    context: &PostingContext,
    post: &Post,
    external_links: bool,
) -> Result<PostDecision> {
    let body = match may_post(context, post).and(post.body.as_ref().map_err(|why| *why)) {
        Ok(body) => body,
        Err(refusal) => return Ok(PostDecision::Refuse(refusal)),
    };
    let tickets = match body.references.is_empty() {
        true => Tickets::default(),
        false => Tickets::new(store.tickets(&body.references)?),
    };
    let html = text::render(&body.text, external_links, &tickets);
    if html.len() > TEXT_COLUMN_BYTES || body.text.len() > TEXT_COLUMN_BYTES {
        return Ok(PostDecision::Refuse(Refusal::MessageTooLarge));
    }
    Ok(PostDecision::Write(NewMessage {
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
        Conversation::Channel(id) => {
            let mut members = context.members(id);
            let can_post = members.any(|member| member.agent == sender && member.can_post);
            can_post.then_some(()).ok_or(Refusal::CannotPost)
        }
        Conversation::Direct(id) => match context.thread(id) {
            both if !both.iter().any(|one| one.agent == sender && one.is_active) => {
                Err(Refusal::NoThreadAccess)
            }
            both if both.iter().any(|one| !one.is_active) => Err(Refusal::RecipientInactive),
            _ => Ok(()),
        },
    }
}

/// Writes who was mentioned in each message, and returns it in the order of `stored`. The database looks the handles up,
/// with one query per message: only its collation knows which handles are equal.
fn insert_mentions(
    store: &mut DatabaseConnection,
    batch: &[Waiting],
    stored: &[(usize, Stored)],
) -> Result<Vec<Vec<AgentId>>> {
    let mut mentioned = Vec::new();
    let mut rows = Vec::new();
    for (place, one) in stored {
        let agents = match &batch[*place].post.body {
            Ok(body) if !body.mentions.is_empty() => {
                let most = body.mentions.len().min(MAX_MENTIONS);
                store.agents_by_handle(&body.mentions[..most])?
            }
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
