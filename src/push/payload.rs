//! The payload of a push, as the application's service worker reads it.

use serde::Serialize;

use crate::store::NewNotification;
use crate::text::collapse;

const TITLE_CHARS: usize = 180;
const BODY_CHARS: usize = 240;
const LINK_CHARS: usize = 255;

#[derive(Serialize)]
struct Payload {
    title: String,
    body: String,
    link: String,
    tag: String,
    icon: &'static str,
}

/// The JSON of a notice.
pub(super) fn payload(notice: &NewNotification) -> Vec<u8> {
    let payload = Payload {
        title: collapse(notice.title, TITLE_CHARS),
        body: collapse(&notice.body, BODY_CHARS),
        link: notice.link.chars().take(LINK_CHARS).collect(),
        tag: format!("andrea-helpdesk-{}", notice.dedupe_key),
        icon: "/Andrea-Helpdesk-favicon.png",
    };
    serde_json::to_vec(&payload).expect("texts are JSON")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::AgentId;

    #[test]
    fn white_space_is_collapsed_and_each_text_has_its_length() {
        let notice = NewNotification {
            agent: AgentId(1),
            kind: "chat_mention",
            data_json: String::new(),
            title: format!(" a\n\tb{}", "é".repeat(200)).leak(),
            body: format!("A  \"Name\"\r\n · {}", "日".repeat(300)),
            link: format!("/chat/{}", "x".repeat(300)),
            dedupe_key: "chat:mention:7".to_owned(),
        };
        let json: serde_json::Value = serde_json::from_slice(&payload(&notice)).expect("JSON");
        assert_eq!(
            json,
            serde_json::json!({
                "title": format!("a b{}", "é".repeat(177)),
                "body": format!("A \"Name\" · {}", "日".repeat(229)),
                "link": format!("/chat/{}", "x".repeat(249)),
                "tag": "andrea-helpdesk-chat:mention:7",
                "icon": "/Andrea-Helpdesk-favicon.png",
            })
        );
    }
}
