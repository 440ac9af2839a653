//! Which agents are online: those with a socket here, and those that other daemons on the same database have. Pure; the
//! time is passed in.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use crate::model::AgentId;

/// Another daemon on the same database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DaemonId(pub u64);

/// What another daemon tells of its agents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RemotePresence {
    /// These are all it has.
    All(BTreeSet<AgentId>),
    /// One came.
    Came(AgentId),
    /// One went.
    Went(AgentId),
    /// It has stopped.
    Gone,
}

/// After this long without a word from another daemon its agents count as gone.
pub(super) const REMOTE_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Debug)]
struct Remote {
    agents: BTreeSet<AgentId>,
    until: Instant,
}

/// Agents that are online, here and elsewhere.
#[derive(Debug, Default)]
pub struct Presence {
    local: BTreeSet<AgentId>,
    remote: HashMap<DaemonId, Remote>,
}

/// An agent came online or went offline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PresenceChange {
    /// Which.
    pub agent: AgentId,
    /// Whether it came.
    pub is_online: bool,
}

impl Presence {
    /// All agents that are online, sorted.
    pub fn all(&self) -> BTreeSet<AgentId> {
        let mut all = self.local.clone();
        for remote in self.remote.values() {
            all.extend(&remote.agents);
        }
        all
    }

    /// Agents with a socket here, those in their grace included.
    pub fn local(&self) -> &BTreeSet<AgentId> {
        &self.local
    }

    /// An agent's first socket came, or the last one is gone for good. Returns the change for all daemons taken together.
    pub fn set_local(&mut self, here: PresenceChange) -> Option<PresenceChange> {
        let before = self.is_online(here.agent);
        if here.is_online {
            self.local.insert(here.agent);
        } else {
            self.local.remove(&here.agent);
        }
        (self.is_online(here.agent) != before).then_some(here)
    }

    /// Another daemon told of its agents. After it has stopped they stay online for `grace`: time to connect to another
    /// daemon.
    pub fn set_remote(
        &mut self,
        daemon: DaemonId,
        told: RemotePresence,
        grace: Duration,
        now: Instant,
    ) -> Vec<PresenceChange> {
        let before = self.all();
        let remote = self.remote.entry(daemon).or_insert(Remote {
            agents: BTreeSet::new(),
            until: now,
        });
        remote.until = now + REMOTE_TIMEOUT;
        match told {
            RemotePresence::All(agents) => remote.agents = agents,
            RemotePresence::Came(agent) => {
                remote.agents.insert(agent);
            }
            RemotePresence::Went(agent) => {
                remote.agents.remove(&agent);
            }
            RemotePresence::Gone => remote.until = now + grace,
        }
        self.changes_since(&before)
    }

    /// Forgets daemons whose time is over.
    pub fn expire(&mut self, now: Instant) -> Vec<PresenceChange> {
        if self.remote.values().all(|remote| remote.until > now) {
            return Vec::new();
        }
        let before = self.all();
        self.remote.retain(|_, remote| remote.until > now);
        self.changes_since(&before)
    }

    /// When [`Presence::expire`] has something to do next.
    pub fn next_expiry(&self) -> Option<Instant> {
        self.remote.values().map(|remote| remote.until).min()
    }

    fn is_online(&self, agent: AgentId) -> bool {
        let mut remotes = self.remote.values();
        self.local.contains(&agent) || remotes.any(|remote| remote.agents.contains(&agent))
    }

    fn changes_since(&self, before: &BTreeSet<AgentId>) -> Vec<PresenceChange> {
        let after = self.all();
        let change = |agent: &AgentId| PresenceChange {
            agent: *agent,
            is_online: after.contains(agent),
        };
        before.symmetric_difference(&after).map(change).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANA: AgentId = AgentId(7);
    const ELSEWHERE: DaemonId = DaemonId(2);
    const GRACE: Duration = Duration::from_secs(5);
    const CAME: PresenceChange = PresenceChange {
        agent: ANA,
        is_online: true,
    };
    const WENT: PresenceChange = PresenceChange {
        agent: ANA,
        is_online: false,
    };

    #[test]
    fn an_agent_is_online_while_anybody_has_him() {
        let (mut presence, now) = (Presence::default(), Instant::now());
        assert_eq!(presence.set_local(CAME), Some(CAME));
        let came = RemotePresence::Came(ANA);
        assert_eq!(presence.set_remote(ELSEWHERE, came, GRACE, now), []);
        assert_eq!(presence.set_local(WENT), None);
        let went = RemotePresence::Went(ANA);
        assert_eq!(presence.set_remote(ELSEWHERE, went, GRACE, now), [WENT]);
    }

    #[test]
    fn a_daemon_that_falls_silent_takes_its_agents_along() {
        let (mut presence, now) = (Presence::default(), Instant::now());
        let all = RemotePresence::All([ANA].into());
        assert_eq!(presence.set_remote(ELSEWHERE, all, GRACE, now), [CAME]);
        assert_eq!(presence.expire(now + GRACE), []);
        assert_eq!(presence.expire(now + REMOTE_TIMEOUT), [WENT]);
    }

    #[test]
    fn a_daemon_that_stops_leaves_its_agents_time_to_come_back() {
        let (mut presence, now) = (Presence::default(), Instant::now());
        presence.set_remote(ELSEWHERE, RemotePresence::All([ANA].into()), GRACE, now);
        assert_eq!(
            presence.set_remote(ELSEWHERE, RemotePresence::Gone, GRACE, now),
            []
        );
        assert_eq!(presence.expire(now + GRACE), [WENT]);
    }
}
