//! `token`: creates a token like the one that the application gives to a logged-in agent, for tests.

use std::io::Write;

use serde_json::json;

use super::{Database, Problem, say};
use crate::auth::sign;
use crate::model::AgentId;
use crate::platform::clock::epoch_seconds;
use crate::platform::exit_code;
use crate::platform::printable::printable;

/// Longest life of such a token, in seconds; the application's own live for 15 minutes.
pub(crate) const MAX_TTL: u64 = 3600;

/// Writes the token to `out`, and a description to `notes`. The exit code is 1 if there is no such active agent.
///
/// # Errors
/// The token cannot be signed or written.
pub(crate) fn mint(
    secret: &str,
    agent: AgentId,
    ttl: u64,
    database: &mut Database,
    out: &mut dyn Write,
    notes: &mut dyn Write,
) -> Result<u8, Problem> {
    // The secret alone suffices for a token; the database only provides the agent's name and role.
    let found = database.run(|store| store.active_agent(agent));
    let code = match &found {
        Ok(None) => exit_code::FAILED,
        _ => exit_code::OK,
    };
    let whose = match &found {
        Ok(Some(found)) => printable(&found.name),
        Ok(None) => "who does not exist or is not active, so the service refuses it".to_owned(),
        Err(problem) => {
            let why = printable(&problem.to_string());
            format!("about which the database could not be asked: {why}")
        }
    };
    let found = found.ok().flatten();
    let role = found.as_ref().map_or("agent", |found| &found.role);
    say(out, &(signed(secret, agent, role, ttl)? + "\n"))?;
    // Only a remark: the token is written already.
    let _ = writeln!(
        notes,
        "A token of agent {agent}, {whose}. For {ttl} s it is as good as that agent's login, for the chat and for the helpdesk's \
         own API; it cannot be taken back."
    );
    Ok(code)
}

/// Signs a token that is valid for `ttl` seconds from now.
///
/// # Errors
/// It cannot be signed.
pub(crate) fn signed(
    secret: &str,
    agent: AgentId,
    role: &str,
    ttl: u64,
) -> Result<String, Problem> {
    let now = epoch_seconds();
    let claims = json!({
        "sub": agent.0,
        "type": "agent",
        "role": role,
        "iat": now,
        "exp": now + ttl,
    });
    sign(secret, &claims)
}
