//! `token`: a token as the application gives one to an agent who has logged in, for tests.

use std::io::Write;

use serde_json::json;

use super::{Database, Problem};
use crate::auth::sign;
use crate::clock::epoch_seconds;
use crate::exit_code;
use crate::model::AgentId;

/// Longest life of such a token, in seconds; the application's own have 15 minutes.
pub const MAX_TTL: u64 = 3600;

/// Writes the token to `out`, and to `notes` what it is.
///
/// # Errors
/// The token cannot be signed or written.
pub fn mint(
    secret: &str,
    agent: AgentId,
    ttl: u64,
    database: &mut Database,
    out: &mut dyn Write,
    notes: &mut dyn Write,
) -> Result<u8, Problem> {
    // Whoever has the secret can make the token; the database only helps to say whose it is.
    let (whose, role) = match database.run(|store| store.active_agent(agent)) {
        Ok(Some(found)) => (format!("agent {agent}, {}", found.name), found.role),
        Ok(None) => (
            format!(
                "agent {agent}, who does not exist or is not active, so the service refuses it"
            ),
            "agent".to_owned(),
        ),
        Err(problem) => (
            format!("agent {agent}, whom nobody could be asked about: {problem}"),
            "agent".to_owned(),
        ),
    };
    let now = epoch_seconds();
    let claims = json!({
        "sub": agent.0,
        "type": "agent",
        "role": role,
        "iat": now,
        "exp": now + ttl,
    });
    let token =
        sign(secret, &claims).map_err(|message| Problem::new(exit_code::SOFTWARE, message))?;
    writeln!(out, "{token}").map_err(|error| Problem::of_output(&error))?;
    // Only a remark: the token is out.
    let _ = writeln!(
        notes,
        "A token of {whose}. For {ttl} s it is as good as that agent's login, for the chat and for the helpdesk's \
         own API; it cannot be taken back."
    );
    Ok(exit_code::OK)
}
