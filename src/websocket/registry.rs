//! The list of all connections, and the places of those that have not authenticated yet.

use std::collections::{BTreeSet, HashMap};
use std::net::TcpStream;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::connection::Connection;
use crate::hub::SubscriberId;
use crate::platform::threads::lock;

/// Refused sockets that stay open until the peer has had time to read the response; more are closed at once.
const MAX_REFUSED: usize = 64;
/// How long refused sockets are kept.
const REFUSED_LINGER: Duration = Duration::from_secs(1);

#[derive(Default)]
pub(super) struct Registry(Mutex<Lists>);

#[derive(Default)]
struct Lists {
    connections: HashMap<SubscriberId, Arc<Connection>>,
    /// Connections that hold the place of an unauthenticated one; the lowest id is the oldest.
    unauthenticated: BTreeSet<SubscriberId>,
    /// Sockets that were refused without a thread, and when.
    refused: Vec<(TcpStream, Instant)>,
    next_id: u64,
}

impl Registry {
    /// Adds the connection that `make` makes for an id. It holds a place until [`Registry::release_place`].
    pub(super) fn insert(&self, make: impl FnOnce(SubscriberId) -> Connection) -> Arc<Connection> {
        let mut lists = self.lock();
        let id = SubscriberId(lists.next_id);
        lists.next_id += 1;
        let connection = Arc::new(make(id));
        lists.connections.insert(id, Arc::clone(&connection));
        lists.unauthenticated.insert(id);
        connection
    }

    /// The connection has authenticated, or never will.
    pub(super) fn release_place(&self, id: SubscriberId) {
        self.lock().unauthenticated.remove(&id);
    }

    /// Takes a connection out.
    pub(super) fn remove(&self, id: SubscriberId) {
        let mut lists = self.lock();
        lists.unauthenticated.remove(&id);
        let removed = lists.connections.remove(&id);
        // The lock goes first: closing the socket takes time.
        drop((lists, removed));
    }

    pub(super) fn get(&self, id: SubscriberId) -> Option<Arc<Connection>> {
        self.lock().connections.get(&id).map(Arc::clone)
    }

    pub(super) fn all(&self) -> Vec<Arc<Connection>> {
        self.lock().connections.values().map(Arc::clone).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.lock().connections.len()
    }

    /// How many connections have not authenticated yet.
    pub(super) fn unauthenticated(&self) -> usize {
        self.lock().unauthenticated.len()
    }

    /// The oldest connection whose place may be given to a newcomer.
    pub(super) fn oldest_silent(&self, now: Instant) -> Option<Arc<Connection>> {
        let lists = self.lock();
        let mut waiting = lists.unauthenticated.iter();
        waiting
            .find_map(|id| lists.connections.get(id).filter(|one| one.is_silent(now)))
            .map(Arc::clone)
    }

    /// Keeps a refused socket open until its peer has had time to read the response.
    pub(super) fn keep_refused(&self, stream: TcpStream) {
        let mut lists = self.lock();
        if lists.refused.len() < MAX_REFUSED {
            lists.refused.push((stream, Instant::now()));
        }
    }

    /// Closes refused sockets whose time is over.
    pub(super) fn drop_refused(&self, now: Instant) {
        let is_over = |since: Instant| now.saturating_duration_since(since) >= REFUSED_LINGER;
        self.lock().refused.retain(|(_, since)| !is_over(*since));
    }

    fn lock(&self) -> MutexGuard<'_, Lists> {
        lock(&self.0)
    }
}
