//! A page of the newest messages, limited by count and bytes. A row may hold 128 KiB, so the limit applies to what is
//! read, not only to what is sent.

use crate::model::Message;

/// Size of a row as JSON without its text and HTML, in bytes.
const OVERHEAD: usize = 300;

/// Limits of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageLimit {
    /// Messages.
    pub messages: usize,
    /// Bytes of texts and HTML, plus 300 for each message; the first message is taken however large it is.
    pub bytes: usize,
}

impl PageLimit {
    /// Rows to ask for: one more shows whether there are more.
    pub(super) fn rows(self) -> usize {
        self.messages.saturating_add(1)
    }
}

/// A page of the newest messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MessagePage {
    /// Ascending by id.
    pub messages: Vec<Message>,
    /// Whether older ones were left out.
    pub has_older: bool,
}

/// Collects a page from the newest message down.
pub(super) struct PageBuilder {
    room: PageLimit,
    found: MessagePage,
    bytes: usize,
}

impl PageBuilder {
    pub(super) fn new(room: PageLimit) -> Self {
        PageBuilder {
            room,
            found: MessagePage::default(),
            bytes: 0,
        }
    }

    /// Whether the page takes no more messages.
    pub(super) fn is_full(&self) -> bool {
        self.found.has_older
    }

    /// Adds the next older message if it fits.
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

    pub(super) fn end(mut self) -> MessagePage {
        self.found.messages.reverse();
        self.found
    }
}
