//! The ticket references of a body, and which of them were found. The caller looks tickets up.

use super::tokens::{TextToken, next_token};

/// Most different references of one message that are looked up; the others stay text (rendering.md).
pub const MAX_TICKET_REFERENCES: usize = 50;

/// The tickets that a body refers to, each reference once, in order of appearance within its kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TicketReferences {
    /// At most ten digits each. May contain 0, which is no ticket's id.
    pub ids: Vec<u64>,
    /// As first typed. Two that differ only in ASCII case are one reference.
    pub numbers: Vec<String>,
}

impl TicketReferences {
    /// Whether there is nothing to look up.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty() && self.numbers.is_empty()
    }

    fn is_full(&self) -> bool {
        self.ids.len() + self.numbers.len() >= MAX_TICKET_REFERENCES
    }
}

/// The first [`MAX_TICKET_REFERENCES`] different references of `body`, ids and numbers together. The caller looks them up
/// before [`render`](super::render()).
///
/// A reference inside a URL does not count, whether or not the URL becomes a link: the setting that `render` takes makes no
/// difference here.
pub fn ticket_references(body: &str) -> TicketReferences {
    let mut references = TicketReferences::default();
    let mut at = 0;
    while !references.is_full()
        && let Some(found) = next_token(body, at)
    {
        at = found.end;
        match found.token {
            TextToken::TicketId { id, .. } if !references.ids.contains(&id) => {
                references.ids.push(id)
            }
            TextToken::TicketNumber { number } => {
                let known = references
                    .numbers
                    .iter()
                    .any(|other| other.eq_ignore_ascii_case(number));
                if !known {
                    references.numbers.push(number.to_owned());
                }
            }
            _ => {}
        }
    }
    references
}

/// A ticket that exists and is not deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// `tickets.id`
    pub id: u64,
    /// `tickets.ticket_number`, without `#`. Any text: it is escaped where it is written.
    pub number: String,
}

/// The tickets that were found for one message; few, since few are looked up.
#[derive(Clone, Debug, Default)]
pub struct Tickets(Vec<Ticket>);

impl Tickets {
    /// `found` in any order, perhaps with duplicates. Of two tickets with the same number, `by_number` finds the first.
    pub fn new(found: Vec<Ticket>) -> Self {
        Tickets(found)
    }

    /// The ticket with this id.
    pub fn by_id(&self, id: u64) -> Option<&Ticket> {
        self.0.iter().find(|ticket| ticket.id == id)
    }

    /// The ticket with this number, ignoring ASCII case, as the database's collation does.
    pub fn by_number(&self, number: &str) -> Option<&Ticket> {
        let mut tickets = self.0.iter();
        tickets.find(|ticket| ticket.number.eq_ignore_ascii_case(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_come_once_and_in_order() {
        let found =
            ticket_references("#12 ticket #HD-2026-05-12-1, #7 #0012 #hd-2026-05-12-1 http://x/#9");
        assert_eq!(found.ids, [12, 7]);
        assert_eq!(found.numbers, ["HD-2026-05-12-1"]);
        assert!(ticket_references("a#1 # 2 #3x").is_empty());
    }

    #[test]
    fn links_that_are_switched_off_still_swallow_references() {
        assert!(ticket_references("https://x.test/?#12").is_empty());
    }

    #[test]
    fn no_more_than_fifty_different_ones_are_looked_up() {
        let mut body = String::from("#HD-2026-05-12-1 ");
        for id in 1..=60 {
            body.push_str(&format!("#{id} #1 "));
        }
        let found = ticket_references(&body);
        assert_eq!(found.numbers.len(), 1);
        assert_eq!(found.ids, (1..=49).collect::<Vec<u64>>());
    }

    #[test]
    fn tickets_are_found_by_id_and_by_number() {
        let ticket = |id, number: &str| Ticket {
            id,
            number: number.to_owned(),
        };
        let tickets = Tickets::new(vec![
            ticket(1, "hd-1"),
            ticket(2, "HD-2"),
            ticket(1, "hd-1"),
        ]);
        assert_eq!(tickets.by_number("HD-1"), tickets.by_id(1));
        assert_eq!(tickets.by_number("hd-2"), Some(&ticket(2, "HD-2")));
        assert_eq!(tickets.by_number("hd-3"), None);
        assert_eq!(tickets.by_id(3), None);
    }
}
