//! Threads that the service is nothing without. One that panics leaves a process that looks alive, keeps its sockets and
//! serves nobody; so whoever waits for the end of the service is told, and ends it with an error. One service a process,
//! so one listener.
//!
//! All threads are, but for these: `push` and `push-send` catch what happens in them, and go on without what waited to be
//! pushed; `stop-limit` and `last-rows` are there only while the process ends anyway.

use std::sync::{Mutex, PoisonError};
use std::thread;

type Listener = Box<dyn Fn(&str) + Send>;

static LISTENER: Mutex<Option<Listener>> = Mutex::new(None);

/// From now on `listener` is told of a vital thread that panics; it must not block.
pub fn listen(listener: impl Fn(&str) + Send + 'static) {
    *LISTENER.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(listener));
}

/// Lives as long as a vital thread, and is dropped by it.
pub struct Vital(());

/// The thread that owns what this returns is vital until it drops it.
#[must_use]
pub fn thread() -> Vital {
    Vital(())
}

impl Drop for Vital {
    fn drop(&mut self) {
        if !thread::panicking() {
            return;
        }
        let listener = LISTENER.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(listener) = &*listener {
            listener(thread::current().name().unwrap_or("without a name"));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn the_listener_hears_of_a_panic_and_of_no_other_end() {
        let (sender, heard) = channel();
        listen(move |name| sender.send(name.to_owned()).expect("the test listens"));
        for (name, panics) in [("healthy", false), ("broken", true)] {
            let run = move || {
                let _vital = thread();
                assert!(!panics, "as the test wants it");
            };
            let thread = thread::Builder::new().name(name.to_owned()).spawn(run);
            assert_eq!(thread.expect("a thread").join().is_err(), panics);
        }
        assert_eq!(heard.try_iter().collect::<Vec<_>>(), ["broken"]);
    }
}
