//! The demo's agents and their chat history. Written once into an empty database and never again, so that a later start
//! continues where the last one ended.

use std::collections::HashMap;

use crate::config::settings::key;
use crate::model::{AgentId, ChannelId, Conversation, MessageId, ThreadId};
use crate::store::sqlite::{NewAgent, NewChannel, SqliteConnection, SqliteStore};
use crate::store::{DatabaseConnection, NewMessage, Posting, Result};
use crate::text::{self, Tickets};

/// Where the database's content comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filled {
    /// Written by this call.
    Now,
    /// It had agents already.
    Before,
}

/// Fills an empty database in one transaction.
///
/// # Errors
/// The database cannot be opened or written to.
pub fn fill(store: &SqliteStore) -> Result<Filled> {
    let mut connection = store.open()?;
    connection.begin()?;
    // Checked within the transaction, so that only one of two concurrent starts fills the database.
    if connection.has_agents()? {
        connection.rollback()?;
        return Ok(Filled::Before);
    }
    write(&mut connection)?;
    connection.commit()?;
    Ok(Filled::Now)
}

/// Name, handle, role.
const AGENTS: [(&str, &str, &str); 5] = [
    ("Zoë Marchetti", "zoe", "admin"),
    ("Jörg Müller", "joerg", "admin"),
    ("Aïcha Benali", "aicha", "agent"),
    ("Łukasz Nowak", "lukasz", "agent"),
    ("渡辺さくら", "sakura", "agent"),
];
const ZOE: usize = 0;
const JOERG: usize = 1;
const AICHA: usize = 2;
const LUKASZ: usize = 3;
const SAKURA: usize = 4;

struct Channel {
    name: &'static str,
    slug: &'static str,
    description: &'static str,
    /// Members that may post.
    posting: &'static [usize],
    /// Members that may only read.
    reading: &'static [usize],
}

const CHANNELS: [Channel; 3] = [
    Channel {
        name: "General",
        slug: "general",
        description: "Everything that has no channel of its own",
        posting: &[ZOE, JOERG, AICHA, LUKASZ, SAKURA],
        reading: &[],
    },
    Channel {
        name: "Announcements",
        slug: "announcements",
        description: "From the team leads; everybody reads, two write",
        posting: &[ZOE, JOERG],
        reading: &[AICHA, LUKASZ, SAKURA],
    },
    Channel {
        name: "Hardware",
        slug: "hardware",
        description: "Printers, laptops, cables",
        posting: &[ZOE, AICHA, LUKASZ],
        reading: &[],
    },
];
const GENERAL: SeedConversation = SeedConversation::Channel(0);
const ANNOUNCEMENTS: SeedConversation = SeedConversation::Channel(1);
const HARDWARE: SeedConversation = SeedConversation::Channel(2);

const THREADS: [(usize, usize); 2] = [(ZOE, AICHA), (JOERG, LUKASZ)];
const ZOE_AND_AICHA: SeedConversation = SeedConversation::Thread(0);
const JOERG_AND_LUKASZ: SeedConversation = SeedConversation::Thread(1);

/// Number and subject; the first has id 1.
const TICKETS: [(&str, &str); 4] = [
    ("HD-2026-02-03-4", "Printer on the 3rd floor prints in pink"),
    ("HD-2026-02-05-11", "VPN drops every ten minutes"),
    ("HD-2026-02-06-2", "New laptop for accounting"),
    (
        "HD-2026-02-06-7",
        "Cannot open the attachment “naïve_résumé.pdf”",
    ),
];

/// The conversation of a message, by its index in the lists above.
#[derive(Clone, Copy)]
enum SeedConversation {
    Channel(usize),
    Thread(usize),
}

/// Conversation, sender, age in minutes, and the text as typed.
const MESSAGES: [(SeedConversation, usize, u32, &str); 18] = [
    (
        ANNOUNCEMENTS,
        ZOE,
        190,
        "Welcome to the team chat! Tickets, articles and links become links by themselves: ticket #2, \
         #HD-2026-02-06-7, kb:vpn-setup, https://example.com/help",
    ),
    (
        ANNOUNCEMENTS,
        JOERG,
        165,
        "Maintenance on Thursday from 22:00 to 23:30. Mail will be slow, nothing will be lost.",
    ),
    (GENERAL, AICHA, 122, "Good morning everybody :)"),
    (GENERAL, LUKASZ, 121, "Dzień dobry! Coffee is ready <3"),
    (GENERAL, SAKURA, 119, "おはようございます ☕"),
    (
        HARDWARE,
        LUKASZ,
        96,
        "The printer on the 3rd floor is back in pink: #HD-2026-02-03-4 :/",
    ),
    (
        HARDWARE,
        AICHA,
        94,
        "@lukasz I changed the cartridge yesterday. Is it this one?\nhttps://example.com/cartridges?colour=magenta&size=xl",
    ),
    (HARDWARE, LUKASZ, 93, "That one. I will try the other tray."),
    (
        GENERAL,
        JOERG,
        64,
        "About ticket #2: the customer called again. @sakura, can you take over?",
    ),
    (
        GENERAL,
        SAKURA,
        62,
        "Yes, mine now. kb:vpn-setup did not help them, I will write a better one :)",
    ),
    (
        ZOE_AND_AICHA,
        ZOE,
        48,
        "Do you have five minutes before lunch?",
    ),
    (
        ZOE_AND_AICHA,
        AICHA,
        47,
        "Sure, ten if you bring the biscuits ;)",
    ),
    (
        JOERG_AND_LUKASZ,
        LUKASZ,
        41,
        "Jörg, may I swap Thursday with Aïcha?",
    ),
    (
        JOERG_AND_LUKASZ,
        JOERG,
        39,
        "If she is fine with 22:00, so am I :+1:",
    ),
    (
        HARDWARE,
        ZOE,
        31,
        "The laptop for accounting is here: #3. Who sets it up?",
    ),
    (
        GENERAL,
        AICHA,
        17,
        "Does anybody know what “<b>hello</b> & goodbye” in a subject line means? It is only text, I hope :D",
    ),
    (
        GENERAL,
        LUKASZ,
        15,
        "Only text. Everything is, here. @aicha try it with a smiley: :-)",
    ),
    (GENERAL, ZOE, 4, "Lunch at 12:30, @joerg brings the cake 🎂"),
];

fn write(connection: &mut SqliteConnection) -> Result<()> {
    let mut agents = Vec::new();
    for (name, handle, role) in AGENTS {
        agents.push(connection.insert_agent(&NewAgent {
            name,
            email: &format!("{handle}@helpdesk.example"),
            role,
            chat_handle: Some(handle),
        })?);
    }
    let mut channels = Vec::new();
    for channel in CHANNELS {
        let id = connection.insert_channel(&NewChannel {
            name: channel.name,
            slug: channel.slug,
            description: channel.description,
            created_by: agents[ZOE],
        })?;
        for (members, can_post) in [(channel.posting, true), (channel.reading, false)] {
            for member in members {
                connection.insert_member(id, agents[*member], can_post)?;
            }
        }
        channels.push(id);
    }
    let mut threads = Vec::new();
    for (one, two) in THREADS {
        threads.push(connection.insert_thread(agents[one], agents[two])?);
    }
    for (number, subject) in TICKETS {
        connection.insert_ticket(number, subject)?;
    }
    connection.update_settings(&[(key::CHAT_ENABLED, "1")])?;
    talk(connection, &agents, &channels, &threads)
}

/// Writes the history, oldest first. An agent has read everything up to its own last message; the rest is unread.
fn talk(
    connection: &mut SqliteConnection,
    agents: &[AgentId],
    channels: &[ChannelId],
    threads: &[ThreadId],
) -> Result<()> {
    let mut read_up_to: HashMap<(AgentId, Conversation), MessageId> = HashMap::new();
    for (place, sender, minutes, typed) in MESSAGES {
        let conversation = match place {
            SeedConversation::Channel(place) => Conversation::Channel(channels[place]),
            SeedConversation::Thread(place) => Conversation::Direct(threads[place]),
        };
        let sender = agents[sender];
        let created_at = connection.minutes_ago(minutes)?;
        let id = say(connection, conversation, sender, created_at, typed)?;
        read_up_to.insert((sender, conversation), id);
    }
    for ((agent, conversation), id) in read_up_to {
        connection.mark_read(agent, conversation, id)?;
    }
    connection.touch_threads(threads)
}

/// Writes one message through all steps of a post except notifications.
fn say(
    connection: &mut SqliteConnection,
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
