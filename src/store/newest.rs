//! The newest messages of many, as many as whoever asked has room for. A row may hold 128 KiB: what is read, not only what
//! is sent, is bounded by bytes.

use crate::model::Message;

/// What one row takes beside its text and HTML, in bytes, as JSON.
const OVERHEAD: usize = 300;

/// How much there is room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AtMost {
    /// Messages.
    pub messages: usize,
    /// Bytes of texts and HTML, and some for each message; one message is taken however large it is.
    pub bytes: usize,
}

impl AtMost {
    /// Rows to ask for: one more shows whether there are more.
    pub(super) fn rows(self) -> usize {
        self.messages.saturating_add(1)
    }
}

/// Messages, the newest that there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Newest {
    /// Ascending by id.
    pub messages: Vec<Message>,
    /// Whether older ones were left out.
    pub has_older: bool,
}

/// Takes the newest first.
pub(super) struct Gathering {
    room: AtMost,
    found: Newest,
    bytes: usize,
}

impl Gathering {
    pub(super) fn new(room: AtMost) -> Self {
        Gathering {
            room,
            found: Newest::default(),
            bytes: 0,
        }
    }

    /// Whether nothing more is taken.
    pub(super) fn is_full(&self) -> bool {
        self.found.has_older
    }

    /// Takes the next older message, or finds that there is no room for it.
    pub(super) fn offer(&mut self, message: Message) {
        let html = message.body_rendered_html.as_ref().map_or(0, String::len);
        let bytes = self.bytes + message.body_text.len() + html + OVERHEAD;
        let count = self.found.messages.len();
        if count >= self.room.messages || (count > 0 && bytes > self.room.bytes) {
            self.found.has_older = true;
        }
        if !self.is_full() {
            self.bytes = bytes;
            self.found.messages.push(message);
        }
    }

    pub(super) fn end(mut self) -> Newest {
        self.found.messages.reverse();
        self.found
    }
}
