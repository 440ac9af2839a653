//! The demo's agents and their chat history. Written once into an empty database and never again, so that a later start
//! continues where the last one ended.

use std::collections::HashMap;

use serde::Deserialize;

use crate::config::settings::key;
use crate::model::{AgentId, Conversation, MessageId};
use crate::store::sqlite::{NewAgent, NewChannel, SqliteStore};
use crate::store::{DatabaseConnection, NewMessage, Result, Store};
use crate::text::{self, Tickets};

/// What is written. Agents are named by their handles.
#[derive(Deserialize)]
struct Data {
    /// Name, handle, role.
    agents: Vec<(String, String, String)>,
    channels: Vec<Channel>,
    threads: Vec<(String, String)>,
    /// Number and subject; the first has id 1.
    tickets: Vec<(String, String)>,
    /// Oldest first: a channel's slug or a thread, the sender, the age in minutes, and the text as typed.
    messages: Vec<(String, String, u32, String)>,
}

#[derive(Deserialize)]
struct Channel {
    name: String,
    slug: String,
    description: String,
    /// Members that may post.
    posting: Vec<String>,
    /// Members that may only read.
    reading: Vec<String>,
}

/// Fills an empty database in one transaction; returns whether it was empty.
///
/// # Errors
/// The database cannot be opened or written to.
pub fn fill(store: &SqliteStore) -> Result<bool> {
    let mut connection = store.connect()?;
    connection.begin()?;
    // Checked within the transaction, so that only one of two concurrent starts fills the database.
    if connection.has_agents()? {
        connection.rollback()?;
        return Ok(false);
    }
    write(&mut connection)?;
    connection.commit()?;
    Ok(true)
}

fn write(connection: &mut DatabaseConnection) -> Result<()> {
    let data: Data = serde_json::from_str(include_str!("data.json")).expect("it has this form");
    let mut agents: HashMap<&String, AgentId> = HashMap::new();
    for (name, handle, role) in &data.agents {
        let id = connection.insert_agent(&NewAgent {
            name,
            email: &format!("{handle}@helpdesk.example"),
            role,
            chat_handle: Some(handle),
        })?;
        agents.insert(handle, id);
    }
    let mut conversations = HashMap::new();
    for channel in &data.channels {
        let id = connection.insert_channel(&NewChannel {
            name: &channel.name,
            slug: &channel.slug,
            description: &channel.description,
            created_by: agents[&channel.posting[0]],
        })?;
        for (members, can_post) in [(&channel.posting, true), (&channel.reading, false)] {
            for member in members {
                connection.insert_member(id, agents[member], can_post)?;
            }
        }
        conversations.insert(channel.slug.clone(), Conversation::Channel(id));
    }
    let mut threads = Vec::new();
    for (one, two) in &data.threads {
        let id = connection.insert_thread(agents[one], agents[two])?;
        conversations.insert(format!("{one} and {two}"), Conversation::Direct(id));
        threads.push(id);
    }
    for (number, subject) in &data.tickets {
        connection.insert_ticket(number, subject)?;
    }
    connection.update_settings(&[(key::CHAT_ENABLED, "1")])?;
    // An agent has read everything up to its own last message; the rest is unread.
    let mut read_up_to = HashMap::new();
    for (place, sender, minutes, typed) in &data.messages {
        let (conversation, sender) = (conversations[place], agents[sender]);
        let created_at = connection.minutes_ago(*minutes)?;
        let id = say(connection, conversation, sender, created_at, typed)?;
        read_up_to.insert((sender, conversation), id);
    }
    for ((agent, conversation), id) in read_up_to {
        connection.mark_read(agent, conversation, id)?;
    }
    connection.touch_threads(&threads)
}

/// Writes one message through all steps of a post except notifications.
fn say(
    connection: &mut DatabaseConnection,
    conversation: Conversation,
    sender: AgentId,
    created_at: String,
    typed: &str,
) -> Result<MessageId> {
    let body = text::normalise(typed);
    let tickets = Tickets::new(connection.tickets(&text::ticket_references(&body))?);
    let html = text::render(&body, true, &tickets);
    let mentioned = connection.agents_by_handle(&text::mentions(&body))?;
    let ids = connection.insert_messages(&[NewMessage {
        conversation,
        sender,
        body_text: body,
        body_rendered_html: html,
        metadata_json: None,
        created_at,
    }])?;
    let mentions: Vec<_> = ids
        .iter()
        .flat_map(|id| mentioned.iter().map(|agent| (*id, *agent)))
        .collect();
    connection.insert_mentions(&mentions)?;
    Ok(ids.first().copied().unwrap_or(MessageId(0)))
}
