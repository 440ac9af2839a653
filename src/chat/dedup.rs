//! Deduplication by `ref`: a client that lost its socket before the answer can simply send again. The `ref` is stored in the
//! row's `metadata_json`, so this survives a restart and works across daemons on the same database. Memory covers what this
//! process has stored or delivered, a query covers the rest.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use crate::model::{AgentId, Conversation, Message, MessageId};
use crate::platform::threads::lock;
use crate::protocol::Ref;

/// For this long, at least, a message that is sent again is not stored again (protocol.md promises ten minutes).
pub(super) const WINDOW: Duration = Duration::from_secs(600);
/// Messages that were sent within this time are forgotten together.
const GENERATION: Duration = Duration::from_secs(60);

/// What makes two messages one: sender, conversation and `ref`.
pub(super) type IdempotencyKey = (AgentId, Conversation, Ref);

/// The messages of the last [`WINDOW`] that were sent with a `ref`.
#[derive(Debug, Default)]
pub struct Dedup(Mutex<Generations>);

#[derive(Debug, Default)]
struct Generations {
    /// The oldest first.
    generations: VecDeque<Generation>,
    /// Since when all stored messages are remembered here, and the newest message at that time.
    complete: Option<(Instant, MessageId)>,
}

/// What was sent within one [`GENERATION`]. A busy daemon remembers many refs: dropping a whole map frees its memory,
/// removing entries one by one would not.
#[derive(Debug)]
struct Generation {
    since: Instant,
    seen: HashMap<Print, MessageId>,
}

/// The first half of a key's SHA-256. Its size does not depend on the `ref`, whose JSON may take six letters per character.
type Print = [u8; 16];

fn print((agent, conversation, reference): &IdempotencyKey) -> Print {
    let digest = Sha256::digest(format!("{agent} {conversation:?} {}", reference.metadata()));
    digest[..16].try_into().unwrap_or_default()
}

impl Dedup {
    /// A message was stored.
    pub fn remember(&self, message: &Message, now: Instant) {
        let reference = message.metadata_json.as_deref().and_then(Ref::of_metadata);
        if let Some(reference) = reference {
            let key = (message.sender, message.conversation, reference);
            self.lock().remember(print(&key), message.id, now);
        }
    }

    /// The message that was sent with this key before.
    pub fn find(&self, key: &IdempotencyKey, now: Instant) -> Option<MessageId> {
        let key = print(key);
        let mut state = self.lock();
        state.forget(now);
        let mut newest_first = state.generations.iter().rev();
        newest_first.find_map(|generation| generation.seen.get(&key).copied())
    }

    /// The highest id for which memory alone is not enough. `None`: memory is complete, except for ids above the feed's low
    /// watermark.
    pub fn unknown_until(&self, now: Instant) -> Option<MessageId> {
        match self.lock().complete {
            None => Some(MessageId(u64::MAX >> 1)),
            Some((since, newest)) => {
                (now.saturating_duration_since(since) < WINDOW).then_some(newest)
            }
        }
    }

    /// From now on all stored messages are remembered here; `newest` is the newest message in the database.
    pub fn begin(&self, newest: MessageId, now: Instant) {
        self.lock().complete = Some((now, newest));
    }

    /// Something may have been stored that is not remembered here.
    pub fn distrust(&self, now: Instant) {
        self.lock().complete = Some((now, MessageId(u64::MAX >> 1)));
    }

    /// Forgets messages that are too old. To be called now and then, even while no message comes.
    pub fn tidy(&self, now: Instant) {
        self.lock().forget(now);
    }

    fn lock(&self) -> MutexGuard<'_, Generations> {
        lock(&self.0)
    }
}

impl Generations {
    fn remember(&mut self, key: Print, id: MessageId, now: Instant) {
        self.forget(now);
        let is_current = |generation: &&mut Generation| {
            now.saturating_duration_since(generation.since) < GENERATION
        };
        match self.generations.back_mut().filter(is_current) {
            Some(generation) => {
                generation.seen.insert(key, id);
            }
            None => self.generations.push_back(Generation {
                since: now,
                seen: HashMap::from([(key, id)]),
            }),
        }
    }

    fn forget(&mut self, now: Instant) {
        let is_old = |generation: &Generation| {
            now.saturating_duration_since(generation.since) >= WINDOW + GENERATION
        };
        while self.generations.front().is_some_and(is_old) {
            self.generations.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ChannelId;

    fn message(id: u64, metadata: Option<&str>) -> Message {
        Message {
            id: MessageId(id),
            conversation: Conversation::Channel(ChannelId(1)),
            sender: AgentId(7),
            body_text: String::new(),
            body_rendered_html: None,
            metadata_json: metadata.map(str::to_owned),
            created_at: String::new(),
            edited_at: None,
            deleted_at: None,
            deleted_by: None,
            sender_name: String::new(),
            sender_chat_handle: None,
        }
    }

    #[test]
    fn a_ref_is_known_for_its_window_and_kinds_of_ref_differ() {
        let (dedup, now) = (Dedup::default(), Instant::now());
        dedup.remember(&message(5, Some(r#"{"ref":"1"}"#)), now);
        dedup.remember(&message(6, Some(r#"{"other":1}"#)), now);
        let key = |json: &str| {
            let reference = Ref::of_metadata(&format!("{{\"ref\":{json}}}")).expect("usable");
            (AgentId(7), Conversation::Channel(ChannelId(1)), reference)
        };
        assert_eq!(dedup.find(&key("\"1\""), now), Some(MessageId(5)));
        assert_eq!(dedup.find(&key("1"), now), None);
        // The first of a generation is known until the youngest has had its window too.
        assert_eq!(dedup.find(&key("\"1\""), now + WINDOW), Some(MessageId(5)));
        assert_eq!(dedup.find(&key("\"1\""), now + WINDOW + GENERATION), None);
    }

    #[test]
    fn a_ref_that_is_used_again_after_its_window_stands_for_the_newer_message() {
        let (dedup, now) = (Dedup::default(), Instant::now());
        let reference = message(5, Some(r#"{"ref":"1"}"#));
        dedup.remember(&reference, now);
        dedup.remember(
            &Message {
                id: MessageId(9),
                ..reference
            },
            now + WINDOW,
        );
        let key = (
            AgentId(7),
            Conversation::Channel(ChannelId(1)),
            Ref::of_metadata(r#"{"ref":"1"}"#).expect("usable"),
        );
        assert_eq!(dedup.find(&key, now + WINDOW), Some(MessageId(9)));
    }

    #[test]
    fn what_is_too_old_takes_no_room_and_what_is_not_is_held_once() {
        let (dedup, begun) = (Dedup::default(), Instant::now());
        let say = |id: u64, at| {
            dedup.remember(&message(id, Some(&format!(r#"{{"ref":"{id}"}}"#))), at);
        };
        // One in a second, for ten minutes.
        for second in 0..600 {
            say(second, begun + Duration::from_secs(second));
        }
        let held = || {
            let state = dedup.lock();
            let sizes = state.generations.iter().map(|one| one.seen.len());
            (state.generations.len(), sizes.sum::<usize>())
        };
        assert_eq!(held(), (10, 600));
        dedup.tidy(begun + WINDOW + GENERATION);
        assert_eq!(held(), (9, 540));
        dedup.tidy(begun + 2 * WINDOW + GENERATION);
        assert_eq!(held(), (0, 0));
    }

    #[test]
    fn the_database_is_asked_until_everything_of_the_window_went_through_here() {
        let (dedup, now) = (Dedup::default(), Instant::now());
        assert!(dedup.unknown_until(now).is_some());
        dedup.begin(MessageId(9), now);
        assert_eq!(dedup.unknown_until(now), Some(MessageId(9)));
        assert_eq!(dedup.unknown_until(now + WINDOW), None);
        dedup.distrust(now + WINDOW);
        assert!(dedup.unknown_until(now + WINDOW) > Some(MessageId(9)));
    }
}
