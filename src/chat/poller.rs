//! The thread that looks for messages of other writers in the database while a client is connected: new ones, late
//! ones, and, among the newest, those that were edited or deleted.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::chat::Chat;
use crate::feed::FeedState;
use crate::hub::{Command, Publication, Weight};
use crate::model::{AgentId, Conversation, Message, MessageId};
use crate::platform::failpoint;
use crate::protocol;
use crate::protocol::frame::Frame;
use crate::store::{Pool, Result};

/// How often the poller looks at the database while a client is connected.
const POLL_INTERVAL: Duration = Duration::from_millis(250);
/// How often it looks while a message waits for a gap before it.
const GAP_POLL_INTERVAL: Duration = Duration::from_millis(5);
/// How often it looks for edits and deletions.
const CHANGES_INTERVAL: Duration = Duration::from_secs(1);
/// Most ids of one look.
const IDS_PER_LOOK: usize = 20_000;
/// Most messages of one look; the next look takes the rest.
const ROWS_PER_LOOK: usize = 500;
/// Newest ids that are read when the poller begins: ids missing among them may still appear.
const RECENT_IDS: usize = 200;
/// Edits and deletions of older messages are not announced: finding them would cost a scan of the table.
const CHANGES_AMONG: u64 = 2000;
/// How long the poller goes on after the last agent has gone.
const IDLE_AFTER: Duration = Duration::from_secs(2);

/// Runs until the feed is stopped.
pub fn run(chat: &Chat, pool: &Pool) {
    let mut poller = Poller {
        chat,
        pool,
        changes_due: Instant::now(),
        changes_since: String::new(),
        announced: HashSet::new(),
        busy: Instant::now(),
    };
    while poller.wait().is_continue() {
        failpoint::reach("poller");
        poller.look();
    }
}

struct Poller<'a> {
    chat: &'a Chat,
    pool: &'a Pool,
    changes_due: Instant,
    /// Database time of the last look for changes.
    changes_since: String,
    /// Changes of the last look: database times have whole seconds, so the next look may find them again.
    announced: HashSet<(MessageId, Option<String>, Option<String>)>,
    /// When a client was last connected.
    busy: Instant,
}

impl Poller<'_> {
    /// Waits for the next look, or the end of the service.
    fn wait(&mut self) -> ControlFlow<()> {
        let feed = &self.chat.feed;
        let mut state = feed.lock();
        state = match state.is_synced && state.held.is_empty() {
            // A message that has to wait for a gap ends the pause.
            true => feed.wait_while(state, POLL_INTERVAL, |state| {
                state.held.is_empty() && !state.is_nudged
            }),
            false => feed.wait_while(state, GAP_POLL_INTERVAL, |_| true),
        };
        let is_idle = |state: &FeedState| {
            let is_coming = |until: Instant| until.elapsed() < IDLE_AFTER;
            state.held.is_empty() && !state.wanted_until.is_some_and(is_coming)
        };
        if self.chat.hub.is_anyone_here() || !is_idle(&state) {
            self.busy = Instant::now();
        } else if !state.is_synced || self.busy.elapsed() >= IDLE_AFTER {
            state.is_synced = false;
            state = feed.wait_while(state, Duration::MAX, is_idle);
            self.busy = Instant::now();
        }
        state.is_nudged = false;
        if state.is_stopping {
            state.release_held(&self.chat.hub, Instant::now());
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }

    fn look(&mut self) {
        let feed = &self.chat.feed;
        let is_synced = feed.lock().is_synced;
        // The pool logs that the database is gone, and that it is back.
        let outcome = match is_synced {
            true => self.deliver_new(),
            false => self.begin(),
        };
        let now = Instant::now();
        feed.lock().release_held(&self.chat.hub, now);
        if outcome.is_err() {
            // The database is away: the pause is the long one.
            drop(feed.wait_while(feed.lock(), POLL_INTERVAL, |_| true));
            return;
        }
        if is_synced && now >= self.changes_due {
            self.changes_due = now + CHANGES_INTERVAL;
            // The pool logs a failure; the next look tries again.
            let _ = self.announce_changes();
        }
    }

    fn begin(&mut self) -> Result<()> {
        let (now, ids) = self.pool.run(|store| store.newest_ids(RECENT_IDS))?;
        self.changes_since = now;
        self.announced.clear();
        let feed = &self.chat.feed;
        let mut state = feed.lock();
        state.sequencer.begin(&ids, Instant::now());
        let newest = ids.last().copied().unwrap_or(MessageId(0));
        self.chat.hub.send(Command::Newest(newest));
        self.chat.dedup.begin(newest, Instant::now());
        state.is_synced = true;
        drop(state);
        feed.changed.notify_all();
        Ok(())
    }

    fn deliver_new(&mut self) -> Result<()> {
        let feed = &self.chat.feed;
        feed.lock().sequencer.forget(Instant::now());
        let low_watermark = feed.low_watermark();
        // Ids before rows: while an id is missing, every look finds all delivered ids above it again.
        let mut ids = self
            .pool
            .run(|store| store.ids_above(low_watermark, IDS_PER_LOOK))?;
        let state = feed.lock();
        ids.retain(|id| !state.sequencer.is_delivered(*id));
        drop(state);
        ids.truncate(ROWS_PER_LOOK);
        if ids.is_empty() {
            return Ok(());
        }
        let rows = self.pool.run(|store| store.messages(&ids))?;
        let audiences = self.audiences(rows.iter().map(|row| row.conversation))?;
        let now = Instant::now();
        let mut state = feed.lock();
        for row in rows {
            if state.sequencer.is_delivered(row.id) {
                continue;
            }
            if state.sequencer.is_claimed(row.id) {
                // This process wrote it and is about to deliver it; later messages wait for that.
                state.release_held(&self.chat.hub, now);
                if !state.sequencer.is_delivered(row.id) {
                    break;
                }
                continue;
            }
            if row.deleted_at.is_some() {
                state.sequencer.mark_delivered(row.id, now);
                continue;
            }
            self.chat.dedup.remember(&row, now);
            let publication = Publication {
                message: Some(row.id),
                ..publication(&row, &audiences, protocol::message_created(&row))
            };
            state.let_through(&self.chat.hub, vec![(row.id, publication)], now);
        }
        Ok(())
    }

    fn announce_changes(&mut self) -> Result<()> {
        let low_watermark = self.chat.feed.low_watermark();
        let above = MessageId(low_watermark.0.saturating_sub(CHANGES_AMONG));
        let since = self.changes_since.clone();
        let (now, rows) = self
            .pool
            .run(|store| store.changed_messages(above, &since))?;
        let mut found = HashSet::new();
        let mut changed = Vec::new();
        for row in rows {
            let change = (row.id, row.edited_at.clone(), row.deleted_at.clone());
            if !self.announced.contains(&change) {
                changed.push(row);
            }
            found.insert(change);
        }
        let audiences = self.audiences(changed.iter().map(|row| row.conversation))?;
        for row in &changed {
            let text = match row.deleted_at {
                Some(_) => protocol::message_deleted(row),
                None => protocol::message_updated(row),
            };
            self.chat.hub.publish(publication(row, &audiences, text));
        }
        self.changes_since = now;
        self.announced = found;
        Ok(())
    }

    fn audiences(
        &mut self,
        conversations: impl Iterator<Item = Conversation>,
    ) -> Result<HashMap<Conversation, Arc<[AgentId]>>> {
        let mut audiences: HashMap<Conversation, Arc<[AgentId]>> = HashMap::new();
        for conversation in conversations {
            if let Entry::Vacant(entry) = audiences.entry(conversation) {
                let asked = Instant::now();
                let agents = self.pool.run(|store| store.audience(conversation))?;
                entry.insert(self.chat.remember_members(conversation, agents, asked));
            }
        }
        Ok(audiences)
    }
}

fn publication(
    row: &Message,
    audiences: &HashMap<Conversation, Arc<[AgentId]>>,
    text: String,
) -> Publication {
    let audience = Arc::clone(&audiences[&row.conversation]);
    Publication::new(audience, Frame::text(&text), Weight::Essential)
}
