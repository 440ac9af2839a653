//! Processing of a message body: emoticons, mentions, ticket references, the HTML that is stored beside it, and the preview
//! in a notification.
//!
//! Everything here is a pure function of its arguments. Nothing here looks anything up, reads a setting or decides who may
//! write what: the caller looks tickets up, between [`ticket_references`] and [`render()`].
//!
//! The body comes from a browser, so every function takes time linear in its length, whatever it contains. White space that
//! ends a URL or surrounds an emoticon is Unicode white space; letters, digits, case and word boundaries are ASCII
//! throughout.

mod emoticons;
mod mentions;
mod preview;
mod render;
mod tickets;
mod tokens;

pub use emoticons::normalise;
pub use mentions::mentions;
pub use preview::{PREVIEW_CHARS, collapse, preview};
pub use render::render;
pub use tickets::{MAX_TICKET_REFERENCES, Ticket, TicketReferences, Tickets, ticket_references};
