//! From `chat_messages.body_text` to `body_rendered_html`, in one pass: each token of the body is written once, and each
//! piece is escaped as it is written. The input is never escaped text.

use super::tickets::Tickets;
use super::tokens::{TextToken, next_token};

/// The HTML of `body`, by the table in rendering.md. Its only tags are `a` with the attributes given there,
/// `span class="chat-mention"` and `br`.
///
/// `external_links` is the setting `chat_allow_external_links`. `tickets` is what was found for the body's
/// [`ticket_references`](super::ticket_references). Every reference to one of them becomes a link, even one beyond the limit
/// of look-ups, if another reference has found its ticket. The rest stays text.
///
/// The result may be too long for its column of 65,535 bytes: the caller checks that.
pub fn render(body: &str, external_links: bool, tickets: &Tickets) -> String {
    // Room for one link; with more of them the string grows.
    let mut html = String::with_capacity(body.len() + body.len() / 8 + 96);
    let mut at = 0;
    while let Some(found) = next_token(body, at) {
        push_text(&mut html, &body[at..found.start]);
        let typed = &body[found.start..found.end];
        match found.token {
            TextToken::Url(url) if external_links => push_external_link(&mut html, url),
            TextToken::Url(url) => push_text(&mut html, url),
            TextToken::TicketNumber { number } => match tickets.by_number(number) {
                Some(ticket) => push_ticket_link(&mut html, ticket.id, &[typed]),
                None => push_text(&mut html, typed),
            },
            TextToken::TicketId { word, id } => match tickets.by_id(id) {
                Some(ticket) => push_ticket_link(&mut html, id, &[word, "#", &ticket.number]),
                None => push_text(&mut html, typed),
            },
            TextToken::Article { slug } => push_article_link(&mut html, slug),
            TextToken::Mention { handle } => push_mention(&mut html, handle),
        }
        at = found.end;
    }
    push_text(&mut html, &body[at..]);
    html
}

/// Escapes `text` and puts `<br>` before each line break. A break of two characters is never split between two calls: no
/// token begins or ends with CR or LF.
fn push_text(html: &mut String, text: &str) {
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#039;"),
            '\r' | '\n' => {
                html.push_str("<br>");
                html.push(c);
                // Together they are one break; CR CR and LF LF are two.
                html.extend(chars.next_if(|next| *next != c && matches!(next, '\r' | '\n')));
            }
            _ => html.push(c),
        }
    }
}

fn push_external_link(html: &mut String, url: &str) {
    html.push_str("<a href=\"");
    push_text(html, url);
    html.push_str("\" target=\"_blank\" rel=\"noopener noreferrer\">");
    push_text(html, url);
    html.push_str("</a>");
}

fn push_ticket_link(html: &mut String, id: u64, text: &[&str]) {
    *html += &format!("<a href=\"#/tickets/{id}\" class=\"chat-internal-link\">");
    for piece in text {
        push_text(html, piece);
    }
    html.push_str("</a>");
}

/// A slug has no character that needs escaping.
fn push_article_link(html: &mut String, slug: &str) {
    let slug = slug.to_ascii_lowercase();
    *html += &format!("<a href=\"#/kb/{slug}\" class=\"chat-internal-link\">kb:{slug}</a>");
}

/// A handle has no character that needs escaping.
fn push_mention(html: &mut String, handle: &str) {
    let handle = handle.to_ascii_lowercase();
    *html += &format!("<span class=\"chat-mention\">@{handle}</span>");
}

#[cfg(test)]
mod tests {
    use super::super::tickets::Ticket;
    use super::*;

    fn plain(body: &str) -> String {
        render(body, true, &Tickets::default())
    }

    #[test]
    fn every_piece_is_escaped_once() {
        assert_eq!(
            plain("<b>&amp;\"it's\""),
            "&lt;b&gt;&amp;amp;&quot;it&#039;s&quot;"
        );
        assert_eq!(
            plain("'http://x/?a&b'"),
            "&#039;<a href=\"http://x/?a&amp;b\" target=\"_blank\" rel=\"noopener noreferrer\">http://x/?a&amp;b</a>&#039;"
        );
    }

    #[test]
    fn a_line_break_of_two_characters_is_one() {
        assert_eq!(
            plain("a\r\nb\n\rc\r\rd\n\ne\r"),
            "a<br>\r\nb<br>\n\rc<br>\r<br>\rd<br>\n<br>\ne<br>\r"
        );
    }

    #[test]
    fn what_was_found_is_linked_and_the_rest_is_text() {
        let number = String::from("R&D-2026-06-01-5");
        let tickets = Tickets::new(vec![Ticket { id: 42, number }]);
        let link = |text: &str| {
            format!("<a href=\"#/tickets/42\" class=\"chat-internal-link\">{text}</a>")
        };
        assert_eq!(
            render("ticket\n#042 and ticket #43", true, &tickets),
            format!(
                "{} and ticket #43",
                link("ticket<br>\n#R&amp;D-2026-06-01-5")
            )
        );
        let number = String::from("HD-2026-06-01-5");
        let tickets = Tickets::new(vec![Ticket { id: 42, number }]);
        assert_eq!(
            render("#hd-2026-06-01-5!", true, &tickets),
            format!("{}!", link("#hd-2026-06-01-5"))
        );
    }

    #[test]
    fn without_external_links_a_url_is_text_and_nothing_in_it_is_linked() {
        let off = |body| render(body, false, &Tickets::default());
        assert_eq!(
            off("http://x/?kb:a&@bob @bob"),
            "http://x/?kb:a&amp;@bob <span class=\"chat-mention\">@bob</span>"
        );
    }
}
