//! Messages of this process and the ids that are missing before them.

use std::sync::{Arc, Mutex};

use super::*;
use crate::hub::{
    Command, HubConfig, Newcomer, Queued, Subscriber, SubscriberId, SubscriberRef, Weight,
};
use crate::model::{AgentId, CloseCode};
use crate::platform::threads::Threads;
use crate::protocol::frame::{Frame, Frames};

/// A socket that keeps the first letter of what it is told.
#[derive(Default)]
struct Socket(Mutex<String>);

impl Subscriber for Socket {
    fn id(&self) -> SubscriberId {
        SubscriberId(1)
    }
    fn push(&self, frames: &Frames, skipped: usize, _: Weight) -> Queued {
        for frame in frames.iter_from(skipped) {
            lock(&self.0).push(char::from(frame[2]));
        }
        Queued::Nothing
    }
    fn flush(&self) {}
    fn close(&self, _: CloseCode) {}
}

/// What one socket is told while `act` uses a feed that has delivered everything up to 5.
fn told(act: impl FnOnce(&Feed, &Hub)) -> String {
    let config = HubConfig {
        max_per_agent: 1,
        presence_grace: Duration::ZERO,
        presence: |_| Frame::text("p"),
        online: |_| String::new(),
        on_presence: Box::new(|_| {}),
    };
    let (hub, thread) = Hub::start(config, &Threads::new(|_| {})).expect("a thread");
    let socket = Arc::new(Socket::default());
    hub.send(Command::Join(Newcomer {
        subscriber: Arc::clone(&socket) as SubscriberRef,
        agent: AgentId(1),
        asked: Instant::now(),
        welcome: Box::new(|_, _| Frame::text("w")),
        refusal: Frame::text("r"),
        is_held: false,
    }));
    let feed = Feed::default();
    let mut state = feed.lock();
    state.sequencer.begin(&[MessageId(5)], Instant::now());
    state.is_synced = true;
    drop(state);
    act(&feed, &hub);
    hub.send(Command::Stop);
    thread.join().expect("no panic");
    let told = lock(&socket.0).clone();
    told.replace(['w', 'p'], "")
}

fn message(id: u64) -> Vec<(MessageId, Publication)> {
    let audience: Arc<[AgentId]> = Arc::from([AgentId(1)]);
    let frame = Frame::text(&id.to_string());
    let publication = Publication::new(audience, frame, Weight::Essential);
    vec![(MessageId(id), publication)]
}

#[test]
fn a_message_of_this_process_waits_for_the_id_that_is_missing_before_it() {
    let told = told(|feed, hub| {
        feed.publish(hub, message(6));
        feed.publish(hub, message(8));
        feed.publish(hub, message(9));
        let now = Instant::now();
        let mut state = feed.lock();
        assert_eq!(state.held.len(), 2, "7 is missing");
        // The other writer's commit becomes visible: its message goes first.
        state.let_through(hub, message(7), now);
        state.release_held(hub, now);
    });
    assert_eq!(told, "6789");
}

#[test]
fn a_gap_that_does_not_fill_holds_nothing_up_for_longer_than_its_time() {
    let told = told(|feed, hub| {
        feed.publish(hub, message(8));
        let mut state = feed.lock();
        let until = state.held[0].until;
        let before = until - Duration::from_millis(1);
        state.release_held(hub, before);
        assert_eq!(state.held.len(), 1);
        state.release_held(hub, until);
        assert!(state.held.is_empty());
        // It comes after all: late, and once.
        state.let_through(hub, message(7), until);
    });
    assert_eq!(told, "87");
}

#[test]
fn after_several_waits_in_vain_the_next_gap_is_only_looked_into() {
    told(|feed, hub| {
        for id in [7, 9, 11, 13] {
            let begun = Instant::now();
            feed.publish(hub, message(id));
            let mut state = feed.lock();
            let until = state.held[0].until;
            match state.vain < VAIN_WAITS {
                true => assert!(until >= begun + GAP_TIMEOUT, "{id}"),
                false => assert!(until <= Instant::now(), "{id}"),
            }
            state.release_held(hub, until);
        }
        assert_eq!(feed.lock().vain, VAIN_WAITS + 1);
    });
}
