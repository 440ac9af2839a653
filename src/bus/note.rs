//! What daemons say to each other, and how it is sealed. A note is JSON behind an HMAC under a key that is derived from
//! `JWT_SECRET`; it names its sender, numbers its notes, and says when it was sent, so that none is taken twice, late
//! or from a stranger. An unknown kind is ignored, so that two versions can run side by side.

use std::collections::{BTreeSet, HashMap};
use std::fmt;

use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::model::{AgentId, ChannelId, Conversation, ThreadId};

/// Agents that one note may name; if a daemon has more, the others do not see them all.
pub(super) const MAX_AGENTS: usize = 4096;
/// Longest note, in bytes: its agents as numbers of ten digits, and room for the rest.
pub(super) const MAX_BYTES: usize = 64 * 1024;
/// Daemons that are listened to at once.
const MAX_DAEMONS: usize = 64;
/// How far the clocks of two machines may be apart, and how late a note may come, in milliseconds.
const CLOCK_TOLERANCE: u64 = 60_000;
/// Length of a MAC, in bytes.
const MAC_BYTES: usize = 32;

/// What a daemon tells the others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum Note {
    /// A daemon has connected and asks who is online.
    Hello,
    /// All agents that are connected to a daemon.
    Agents {
        /// Who.
        agents: BTreeSet<u64>,
    },
    /// An agent came or went.
    Presence {
        /// Who.
        agent: u64,
        /// Whether it came.
        online: bool,
    },
    /// A daemon stops.
    Gone,
    /// A message was committed: look now.
    Posted,
    /// An agent types.
    Typing {
        /// Where, and who is to be told.
        #[serde(flatten)]
        to: Audience,
        /// Who.
        agent: u64,
        /// The agent's name.
        name: String,
    },
    /// A read marker was moved.
    Read {
        /// Where, and who is to be told.
        #[serde(flatten)]
        to: Audience,
        /// Whose.
        agent: u64,
        /// The new marker.
        last_read: u64,
    },
}

/// A conversation, and agents of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Audience {
    channel: Option<u64>,
    thread: Option<u64>,
    /// The agents.
    pub audience: Vec<u64>,
}

impl Audience {
    pub(super) fn new(conversation: Conversation, audience: &[AgentId]) -> Self {
        Audience {
            channel: conversation.channel_id().map(|id| id.0),
            thread: conversation.thread_id().map(|id| id.0),
            audience: audience.iter().map(|id| id.0).collect(),
        }
    }

    /// The conversation that a note names: a channel or a thread, and not both.
    pub(super) fn conversation(&self) -> Option<Conversation> {
        match (self.channel, self.thread) {
            (Some(id), None) => Some(Conversation::Channel(ChannelId(id))),
            (None, Some(id)) => Some(Conversation::Direct(ThreadId(id))),
            _ => None,
        }
    }
}

impl Note {
    /// All agents of a daemon, or as many as a note may name.
    pub(super) fn agents(agents: &BTreeSet<AgentId>) -> Self {
        Note::Agents {
            agents: agents.iter().take(MAX_AGENTS).map(|id| id.0).collect(),
        }
    }

    fn is_bounded(&self) -> bool {
        match self {
            Note::Agents { agents } => agents.len() <= MAX_AGENTS,
            Note::Typing { to, .. } | Note::Read { to, .. } => to.audience.len() <= MAX_AGENTS,
            _ => true,
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Envelope<T> {
    /// The sending daemon.
    from: u64,
    /// Greater than in any earlier note of this daemon.
    number: u64,
    /// When it was sent, in milliseconds since 1970.
    at: u64,
    note: T,
}

/// Seals notes, and opens those of daemons with the same secret.
#[derive(Clone)]
pub(super) struct Seal(Hmac<Sha256>);

impl Seal {
    /// All daemons with the same secret derive the same key.
    pub(super) fn new(secret: &str) -> Self {
        let key = keyed(secret, "chat bus: key of notes");
        Seal(hmac(&key))
    }

    fn mac(&self, text: &[u8]) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        mac.update(text);
        mac
    }

    /// A note of daemon `from`; `None` where it is too long to be taken.
    pub(super) fn seal(&self, from: u64, number: u64, at: u64, note: &Note) -> Option<Vec<u8>> {
        let envelope = Envelope {
            from,
            number,
            at,
            note,
        };
        let text = serde_json::to_vec(&envelope).ok()?;
        let mut sealed = self.mac(&text).finalize().into_bytes().to_vec();
        sealed.extend(text);
        (sealed.len() <= MAX_BYTES).then_some(sealed)
    }

    fn open<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let (mac, text) = bytes.split_at_checked(MAC_BYTES)?;
        self.mac(text).verify_slice(mac).ok()?;
        Some(text)
    }
}

/// Why a note is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoteRefused {
    /// Not sealed with this secret.
    Forged,
    /// Received before, or sent before this daemon listened.
    Repeated,
    /// Sent too long ago, or in the future.
    Late,
    /// Too many daemons, or agents.
    TooMany,
    /// Longer than any note.
    TooLong,
}

impl fmt::Display for NoteRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NoteRefused::Forged => "it is of none that knows this JWT_SECRET",
            NoteRefused::Repeated => "it was heard before",
            NoteRefused::Late => {
                "it was sent more than 60 s ago, or the clocks of two machines differ"
            }
            NoteRefused::TooLong => "it is longer than any note",
            NoteRefused::TooMany => "there are too many daemons, or it names too many agents",
        })
    }
}

impl std::error::Error for NoteRefused {}

/// Takes notes in: each once, none from a stranger.
pub(super) struct Guard {
    seal: Seal,
    started: u64,
    /// Of each daemon the number of the last note and when it was sent.
    heard: HashMap<u64, (u64, u64)>,
}

impl Guard {
    /// Takes notes that are sent from `now` on, in milliseconds since 1970.
    pub(super) fn new(seal: Seal, now: u64) -> Self {
        Guard {
            seal,
            started: now,
            heard: HashMap::new(),
        }
    }

    /// The sending daemon and its note; `None` for a kind that this version does not know.
    ///
    /// # Errors
    /// The note is refused.
    pub(super) fn take(
        &mut self,
        bytes: &[u8],
        now: u64,
    ) -> Result<(u64, Option<Note>), NoteRefused> {
        let text = self.seal.open(bytes).ok_or(NoteRefused::Forged)?;
        let Envelope {
            from,
            number,
            at,
            note,
        } = serde_json::from_slice::<Envelope<serde_json::Value>>(text)
            .map_err(|_| NoteRefused::Forged)?;
        // When a daemon is forgotten, any note of it that comes again is too late.
        self.heard
            .retain(|_, (_, at)| at.abs_diff(now) <= 2 * CLOCK_TOLERANCE);
        if at.abs_diff(now) > CLOCK_TOLERANCE {
            return Err(NoteRefused::Late);
        }
        match self.heard.get(&from) {
            Some((last, _)) if number <= *last => return Err(NoteRefused::Repeated),
            Some(_) => {}
            // A note of an unknown daemon may be a replay from before this one listened.
            None if at < self.started.min(now) => return Err(NoteRefused::Repeated),
            None if self.heard.len() >= MAX_DAEMONS => return Err(NoteRefused::TooMany),
            None => {}
        }
        self.heard.insert(from, (number, at));
        let note = serde_json::from_value::<Note>(note).ok();
        match note.as_ref().is_none_or(Note::is_bounded) {
            true => Ok((from, note)),
            false => Err(NoteRefused::TooMany),
        }
    }
}

/// The MAC of a purpose, which only a daemon with the secret can compute.
pub(super) fn keyed(secret: &str, purpose: &str) -> [u8; MAC_BYTES] {
    let mut mac = hmac(secret.as_bytes());
    mac.update(purpose.as_bytes());
    mac.finalize().into_bytes().into()
}

fn hmac(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("any length of key is fine for HMAC")
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000_000;

    fn guard() -> Guard {
        Guard::new(Seal::new("a secret"), NOW)
    }

    fn sealed(from: u64, number: u64, at: u64, note: &Note) -> Vec<u8> {
        let sealed = Seal::new("a secret").seal(from, number, at, note);
        sealed.expect("short enough")
    }

    #[test]
    fn every_note_survives_the_way() {
        let thread = Conversation::Direct(ThreadId(3));
        let channel = Conversation::Channel(ChannelId(4));
        let most: Vec<AgentId> = (0..MAX_AGENTS as u64)
            .map(|id| AgentId(u64::from(u32::MAX) - id))
            .collect();
        let mut guard = guard();
        for (number, note) in [
            Note::Hello,
            Note::agents(&most.iter().copied().collect()),
            Note::Presence {
                agent: 7,
                online: false,
            },
            Note::Gone,
            Note::Posted,
            Note::Typing {
                to: Audience::new(thread, &most),
                agent: 7,
                name: "Ann \"<b>\" 日本".to_owned(),
            },
            Note::Read {
                to: Audience::new(channel, &most),
                agent: 1,
                last_read: u64::MAX,
            },
        ]
        .into_iter()
        .enumerate()
        {
            let bytes = sealed(u64::MAX, number as u64, NOW, &note);
            assert_eq!(guard.take(&bytes, NOW), Ok((u64::MAX, Some(note))));
        }
    }

    #[test]
    fn what_is_not_known_is_passed_over() {
        let seal = Seal::new("a secret");
        let text = format!(r#"{{"from":1,"number":1,"at":{NOW},"note":{{"kind":"later"}},"x":1}}"#);
        let mut bytes = seal.mac(text.as_bytes()).finalize().into_bytes().to_vec();
        bytes.extend(text.into_bytes());
        assert_eq!(guard().take(&bytes, NOW), Ok((1, None)));
    }

    #[test]
    fn what_is_forged_in_any_byte_is_refused() {
        let good = sealed(1, 1, NOW, &Note::Hello);
        let mut guard = guard();
        for place in 0..good.len() {
            let mut bytes = good.clone();
            bytes[place] ^= 1;
            assert_eq!(guard.take(&bytes, NOW), Err(NoteRefused::Forged), "{place}");
        }
        let by_another = Seal::new("another").seal(1, 1, NOW, &Note::Hello);
        let by_another = by_another.expect("short enough");
        for bytes in [&good[..31], &good[32..], &by_another, b"", b"{}"] {
            assert_eq!(guard.take(bytes, NOW), Err(NoteRefused::Forged));
        }
        assert_eq!(guard.take(&good, NOW), Ok((1, Some(Note::Hello))));
    }

    #[test]
    fn nothing_is_taken_twice_late_or_from_before() {
        let mut guard = guard();
        let first = sealed(1, 5, NOW, &Note::Hello);
        assert!(guard.take(&first, NOW).is_ok());
        assert_eq!(guard.take(&first, NOW + 1), Err(NoteRefused::Repeated));
        let older = sealed(1, 4, NOW + 1, &Note::Hello);
        assert_eq!(guard.take(&older, NOW + 1), Err(NoteRefused::Repeated));
        assert!(guard.take(&sealed(1, 6, NOW, &Note::Gone), NOW).is_ok());
        let before = sealed(2, 1, NOW - 1, &Note::Hello);
        assert_eq!(guard.take(&before, NOW), Err(NoteRefused::Repeated));
        // Whenever it comes again: it is known, or too late.
        for later in [1_000, 59_000, 61_000, 119_000, 121_000, 999_000] {
            let now = NOW + later;
            assert!(guard.take(&first, now).is_err(), "{later}");
            // Something else makes it forget.
            let _ = guard.take(&sealed(3, later, now, &Note::Hello), now);
        }
        let ahead = sealed(4, 1, NOW + 61_000, &Note::Hello);
        assert_eq!(guard.take(&ahead, NOW), Err(NoteRefused::Late));
    }

    #[test]
    fn daemons_and_agents_are_bounded_and_room_is_made_again() {
        let mut guard = guard();
        let too_many = Note::Agents {
            agents: (0..=MAX_AGENTS as u64).collect(),
        };
        assert_eq!(
            guard.take(&sealed(1, 1, NOW, &too_many), NOW),
            Err(NoteRefused::TooMany)
        );
        for from in 2..100 {
            let _ = guard.take(&sealed(from, 1, NOW, &Note::Hello), NOW);
        }
        assert_eq!(guard.heard.len(), MAX_DAEMONS);
        let newcomer = sealed(100, 1, NOW, &Note::Hello);
        assert_eq!(guard.take(&newcomer, NOW), Err(NoteRefused::TooMany));
        let later = NOW + 2 * CLOCK_TOLERANCE + 1;
        let newcomer = sealed(100, 1, later, &Note::Hello);
        assert!(guard.take(&newcomer, later).is_ok());
        let endless = Note::Typing {
            to: Audience::new(Conversation::Direct(ThreadId(3)), &[]),
            agent: 7,
            name: "x".repeat(MAX_BYTES),
        };
        assert_eq!(Seal::new("a secret").seal(1, 1, NOW, &endless), None);
    }
}
