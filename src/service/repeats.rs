//! Which messages were sent with which `ref`, so that a client that lost its socket before the answer can simply
//! send again. The `ref` stands in the row's `metadata_json`, so this survives a restart and reaches other daemons
//! on the same database: what went through here is remembered, and for what was stored before anybody looked here
//! the database is asked.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::model::{AgentId, Conversation, Message, MessageId};
use crate::protocol::Ref;

/// For how long, at least, a message that is sent again is not stored again.
pub const WINDOW: Duration = Duration::from_secs(600);
/// What was sent within so long is forgotten together.
const GENERATION: Duration = Duration::from_secs(60);

/// What makes two messages one: sender, conversation and `ref`.
pub type Key = (AgentId, Conversation, Ref);

/// The messages of the last [`WINDOW`] that were sent with a `ref`.
#[derive(Debug, Default)]
pub struct Repeats(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// The oldest first.
    generations: VecDeque<Generation>,
    /// How many were forgotten since somebody asked.
    forgotten: u64,
    /// Since when everything that is stored goes through here, and the newest message then.
    complete: Option<(Instant, MessageId)>,
}

/// What was sent within one [`GENERATION`]. A busy daemon remembers many refs, each of them once, and a map that is
/// dropped as a whole leaves no holes.
#[derive(Debug)]
struct Generation {
    since: Instant,
    seen: HashMap<Key, MessageId>,
}

impl Repeats {
    /// A message was stored.
    pub fn remember(&self, message: &Message, now: Instant) {
        let reference = message.metadata_json.as_deref().and_then(Ref::of_metadata);
        if let Some(reference) = reference {
            let key = (message.sender, message.conversation, reference);
            self.lock().remember(key, message.id, now);
        }
    }

    /// The message that was sent with this key before.
    pub fn find(&self, key: &Key, now: Instant) -> Option<MessageId> {
        let mut state = self.lock();
        state.forget(now);
        let mut newest_first = state.generations.iter().rev();
        newest_first.find_map(|generation| generation.seen.get(key).copied())
    }

    /// Up to which id the database has to be asked as well; `None`: not at all.
    pub fn unknown_until(&self, now: Instant) -> Option<MessageId> {
        match self.lock().complete {
            None => Some(MessageId(u64::MAX >> 1)),
            Some((since, newest)) => {
                (now.saturating_duration_since(since) < WINDOW).then_some(newest)
            }
        }
    }

    /// From now on everything that is stored goes through here; `newest` is the newest message there is.
    pub fn begin(&self, newest: MessageId, now: Instant) {
        self.lock().complete = Some((now, newest));
    }

    /// Something may have been stored that did not go through here.
    pub fn doubt(&self, now: Instant) {
        self.lock().complete = Some((now, MessageId(u64::MAX >> 1)));
    }

    /// Gives back what the messages took that are too old, and tells how many were forgotten since the last call. To be
    /// called now and then, also where nobody says anything.
    pub fn tidy(&self, now: Instant) -> u64 {
        let mut state = self.lock();
        state.forget(now);
        std::mem::take(&mut state.forgotten)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn remember(&mut self, key: Key, id: MessageId, now: Instant) {
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
            let oldest = self.generations.pop_front();
            self.forgotten += oldest.map_or(0, |one| one.seen.len() as u64);
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
        let (repeats, now) = (Repeats::default(), Instant::now());
        repeats.remember(&message(5, Some(r#"{"ref":"1"}"#)), now);
        repeats.remember(&message(6, Some(r#"{"other":1}"#)), now);
        let key = |json: &str| {
            let reference = Ref::of_metadata(&format!("{{\"ref\":{json}}}")).expect("usable");
            (AgentId(7), Conversation::Channel(ChannelId(1)), reference)
        };
        assert_eq!(repeats.find(&key("\"1\""), now), Some(MessageId(5)));
        assert_eq!(repeats.find(&key("1"), now), None);
        // The youngest of a generation is known for the window as well.
        assert_eq!(
            repeats.find(&key("\"1\""), now + WINDOW),
            Some(MessageId(5))
        );
        assert_eq!(repeats.find(&key("\"1\""), now + WINDOW + GENERATION), None);
    }

    #[test]
    fn a_ref_that_is_used_again_after_its_window_stands_for_the_newer_message() {
        let (repeats, now) = (Repeats::default(), Instant::now());
        let reference = message(5, Some(r#"{"ref":"1"}"#));
        repeats.remember(&reference, now);
        repeats.remember(
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
        assert_eq!(repeats.find(&key, now + WINDOW), Some(MessageId(9)));
    }

    #[test]
    fn what_is_too_old_takes_no_room_and_what_is_not_is_held_once() {
        let (repeats, begun) = (Repeats::default(), Instant::now());
        let say = |id: u64, at| {
            repeats.remember(&message(id, Some(&format!(r#"{{"ref":"{id}"}}"#))), at);
        };
        // One in a second, for ten minutes.
        for second in 0..600 {
            say(second, begun + Duration::from_secs(second));
        }
        let held = || {
            let state = repeats.lock();
            let sizes = state.generations.iter().map(|one| one.seen.len());
            (state.generations.len(), sizes.sum::<usize>())
        };
        assert_eq!(held(), (10, 600));
        assert_eq!(repeats.tidy(begun + WINDOW + GENERATION), 60);
        assert_eq!(held(), (9, 540));
        assert_eq!(repeats.tidy(begun + 2 * WINDOW + GENERATION), 540);
        assert_eq!(held(), (0, 0));
    }

    #[test]
    fn the_database_is_asked_until_everything_of_the_window_went_through_here() {
        let (repeats, now) = (Repeats::default(), Instant::now());
        assert!(repeats.unknown_until(now).is_some());
        repeats.begin(MessageId(9), now);
        assert_eq!(repeats.unknown_until(now), Some(MessageId(9)));
        assert_eq!(repeats.unknown_until(now + WINDOW), None);
        repeats.doubt(now + WINDOW);
        assert!(repeats.unknown_until(now + WINDOW) > Some(MessageId(9)));
    }
}
