//! What daemons say to each other, and its JSON. Unknown kinds and broken notes are passed over, so that two versions
//! can run side by side.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::frame::Frame;
use crate::hub::{DaemonId, Publication, Weight};
use crate::model::AgentId;

/// One thing said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// A daemon has come and wants to know who is online.
    Hello,
    /// All agents that a daemon has.
    Agents(BTreeSet<AgentId>),
    /// One came or went.
    Presence(AgentId, bool),
    /// A daemon stops.
    Gone,
    /// A message was committed: look now.
    Posted,
    /// An event for the sockets of these agents.
    Relay(Relay),
}

/// An event that other daemons deliver to their sockets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relay {
    /// Whose sockets.
    pub audience: Arc<[AgentId]>,
    /// The event's JSON.
    pub text: String,
    /// Whether it may be left out where a queue fills up.
    pub weight: Weight,
}

impl Relay {
    /// What the hub is told of it.
    pub fn publication(self) -> Publication {
        Publication {
            message: None,
            audience: self.audience,
            frame: Frame::text(&self.text),
            weight: self.weight,
            own: None,
            resume: None,
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Wire {
    from: u64,
    #[serde(flatten)]
    what: What,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum What {
    Hello,
    Agents {
        agents: BTreeSet<u64>,
    },
    Presence {
        agent: u64,
        online: bool,
    },
    Gone,
    Posted,
    Relay {
        audience: Vec<u64>,
        text: String,
        ephemeral: bool,
    },
}

impl Note {
    /// The note as sent by `from`.
    pub fn encode(&self, from: DaemonId) -> String {
        let what = match self {
            Note::Hello => What::Hello,
            Note::Agents(agents) => What::Agents {
                agents: agents.iter().map(|agent| agent.0).collect(),
            },
            Note::Presence(agent, online) => What::Presence {
                agent: agent.0,
                online: *online,
            },
            Note::Gone => What::Gone,
            Note::Posted => What::Posted,
            Note::Relay(relay) => What::Relay {
                audience: relay.audience.iter().map(|agent| agent.0).collect(),
                text: relay.text.clone(),
                ephemeral: relay.weight == Weight::Ephemeral,
            },
        };
        serde_json::to_string(&Wire { from: from.0, what }).unwrap_or_default()
    }

    /// A note and who sent it; `None` where it is none that this version knows.
    pub fn decode(bytes: &[u8]) -> Option<(DaemonId, Self)> {
        let Wire { from, what } = serde_json::from_slice(bytes).ok()?;
        let note = match what {
            What::Hello => Note::Hello,
            What::Agents { agents } => Note::Agents(agents.into_iter().map(AgentId).collect()),
            What::Presence { agent, online } => Note::Presence(AgentId(agent), online),
            What::Gone => Note::Gone,
            What::Posted => Note::Posted,
            What::Relay {
                audience,
                text,
                ephemeral,
            } => Note::Relay(Relay {
                audience: audience.into_iter().map(AgentId).collect(),
                text,
                weight: match ephemeral {
                    true => Weight::Ephemeral,
                    false => Weight::Essential,
                },
            }),
        };
        Some((DaemonId(from), note))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_note_survives_the_way() {
        let relay = Relay {
            audience: [AgentId(1), AgentId(2)].into(),
            text: "{\"type\":\"chat.typing\"}".to_owned(),
            weight: Weight::Ephemeral,
        };
        for note in [
            Note::Hello,
            Note::Agents([AgentId(7)].into()),
            Note::Presence(AgentId(7), false),
            Note::Gone,
            Note::Posted,
            Note::Relay(relay),
        ] {
            let text = note.encode(DaemonId(u64::MAX));
            let back = Note::decode(text.as_bytes());
            assert_eq!(back, Some((DaemonId(u64::MAX), note)), "{text}");
        }
    }

    #[test]
    fn what_is_not_known_is_passed_over() {
        for text in [
            "",
            "{}",
            r#"{"from":1,"kind":"later"}"#,
            r#"{"from":-1,"kind":"hello"}"#,
        ] {
            assert_eq!(Note::decode(text.as_bytes()), None);
        }
    }
}
