//! What a browser does after the handshake: authenticate, send a message, and stay silent until the service pings.

use std::time::{Duration, Instant};
use std::{fs, io};

use serde_json::{Value, json};

use super::symptoms::{self, Symptom};
use super::tls::Stream;
use super::web_server::{Login, Open, TIMEOUT, WebServerCheck};
use super::{Finding, Level};
use crate::admin::client::{Client, Heard};
use crate::admin::{Database, probe, token};
use crate::auth::{TokenError, TokenVerifier};
use crate::config::settings::Rows;
use crate::config::{Config, listen_address};
use crate::model::{AuthFailure, MessageId, ThreadId};
use crate::platform::clock::epoch_seconds;

/// A token's life beyond the silence: enough for all other steps.
const STEPS: Duration = Duration::from_secs(120);
/// How late the service's ping may come.
const LATE: Duration = Duration::from_secs(5);
/// Most events to read while waiting for an answer: a busy chat sends others first.
const MOST_EVENTS: usize = 1000;
const TEXT: &str = "A test of the chat by andrea-chat-websocket check. It is deleted at once.";

/// Why a step failed, and what was seen.
struct LoginError(&'static Symptom, String);

/// Logs in, then performs the other requested steps.
pub(super) fn follow(
    login: &Login,
    way: &WebServerCheck,
    install: (&Config, Option<&Rows>),
    database: Option<Database>,
    open: &mut Open,
    notes: &mut dyn io::Write,
    findings: &mut Vec<Finding>,
) -> Result<(), Finding> {
    let ping = install.0.limits.ping_interval;
    let who = match login {
        Login::Agent(agent) => format!("agent {agent}"),
        Login::File(file) => format!("the agent of the token in {}", file.display()),
    };
    // The notes are only remarks: a failure to write them is ignored.
    let _ = writeln!(
        notes,
        "Logging in: {who} appears online for about {} s.",
        (ping + LATE).as_secs()
    );
    if let Some(thread) = way.thread {
        let _ = writeln!(
            notes,
            "Writing one message in direct thread {thread}, which both agents see until it is marked deleted at once."
        );
    }
    let tried = format!("log in as {who}");
    authenticate(login, install, open).map_err(|LoginError(symptom, came)| {
        of_database(symptom, findings).failed("token", &tried, came)
    })?;
    findings.push(Finding::ok(
        "token",
        format!("{tried}: auth.ok, and a pong"),
    ));
    if let Some(thread) = way.thread {
        let tried = format!("write in direct thread {thread}");
        findings.push(match write(thread, database, open) {
            Ok(id) => {
                let detail = format!("{tried}: stored as message {id}, and marked deleted");
                Finding::ok("message", detail)
            }
            Err(LoginError(symptom, came)) => {
                of_database(symptom, findings).failed("message", tried, came)
            }
        });
    }
    findings.push(stay_silent(ping, open));
    Ok(())
}

/// Narrows a database failure down by what the check of the rights has found.
fn of_database(symptom: &'static Symptom, findings: &[Finding]) -> &'static Symptom {
    let rights = findings
        .iter()
        .find(|one| one.about == "rights" && one.level == Level::Failed);
    match rights {
        _ if *symptom != symptoms::DATABASE_DOWN => symptom,
        Some(one) if one.detail.contains("read-only") || one.detail.contains("read only") => {
            &symptoms::DATABASE_READ_ONLY
        }
        Some(_) => &symptoms::DATABASE_RIGHTS,
        None => symptom,
    }
}

fn authenticate(
    login: &Login,
    (config, rows): (&Config, Option<&Rows>),
    open: &mut Open,
) -> Result<(), LoginError> {
    let secret = &config.jwt_secret;
    let refused = |why: String| LoginError(&symptoms::TOKEN_REFUSED, why);
    let token = match login {
        Login::Agent(agent) => {
            let life = STEPS + config.limits.ping_interval + LATE;
            token::signed(secret, *agent, "agent", life.as_secs())
                .map_err(|problem| refused(problem.to_string()))?
        }
        Login::File(file) => fs::read_to_string(file)
            .map(|text| text.trim().to_owned())
            .map_err(|error| refused(error.to_string()))?,
    };
    let answer = show(&token, open)?;
    let said = answer["message"].as_str().unwrap_or_default().to_owned();
    let symptom = match answer["type"].as_str() {
        Some("auth.ok") => {
            let is_pong = |event: &Value| event["type"] == "pong";
            return ask(open, &json!({ "type": "ping" }), is_pong).map(|_| ());
        }
        Some("error") => of_code(&answer),
        _ if said == AuthFailure::UnknownAgent.to_string() => &symptoms::AGENT_INACTIVE,
        _ => match of_token(secret, &token) {
            stale if *stale == symptoms::SECRET_STALE && is_taken(&token, config, rows) => {
                &symptoms::LED_ELSEWHERE
            }
            symptom => symptom,
        },
    };
    Err(LoginError(symptom, said))
}

/// Sends a token and returns the answer.
fn show(token: &str, open: &mut Open) -> Result<Value, LoginError> {
    ask(open, &json!({ "type": "auth", "token": token }), |event| {
        matches!(
            event["type"].as_str(),
            Some("auth.ok" | "auth.failed" | "error")
        )
    })
}

/// Whether the service at this install's own address accepts a token.
fn is_taken(token: &str, config: &Config, rows: Option<&Rows>) -> bool {
    let Some(rows) = rows else {
        return false;
    };
    let (host, port, _) = listen_address(config, rows);
    let opened = probe::listener(&host, port, TIMEOUT).and_then(|(_, socket, rest)| {
        let stream: Box<dyn Stream> = Box::new(socket.try_clone()?);
        let client = Client::new(stream, rest);
        Ok(Open { client, socket })
    });
    opened.is_ok_and(|mut open| {
        show(token, &mut open).is_ok_and(|answer| answer["type"] == "auth.ok")
    })
}

/// Why the service refuses a token, judged by this install's secret and clock.
fn of_token(secret: &str, token: &str) -> &'static Symptom {
    match TokenVerifier::new(secret).verify(token, epoch_seconds()) {
        Ok(_) => &symptoms::SECRET_STALE,
        Err(TokenError::OtherSecret) => &symptoms::SECRET_OTHER,
        Err(TokenError::Expired(_)) => &symptoms::TOKEN_OLD,
        Err(TokenError::Early(..)) => &symptoms::CLOCK_BEHIND,
        Err(_) => &symptoms::TOKEN_REFUSED,
    }
}

fn of_code(answer: &Value) -> &'static Symptom {
    match answer["code"].as_str() {
        Some("database_unavailable" | "outcome_unknown" | "internal") => &symptoms::DATABASE_DOWN,
        Some("chat_disabled") => &symptoms::CHAT_OFF,
        Some("too_many_connections") => &symptoms::AGENT_FULL,
        _ => &symptoms::MESSAGE_REFUSED,
    }
}

/// The meaning of the service's close code; a proxy sends none of these codes.
pub(super) fn of_close(why: &str, otherwise: &'static Symptom) -> &'static Symptom {
    let code = why.split(|c: char| !c.is_ascii_digit());
    match code.into_iter().find(|word| word.len() == 4) {
        Some("1001") => &symptoms::STOPPED,
        Some("1013") => &symptoms::DATABASE_DOWN,
        Some("4401") => &symptoms::TOKEN_REFUSED,
        Some("4403") => &symptoms::AGENT_INACTIVE,
        _ => otherwise,
    }
}

/// Sends an event and waits for its answer; other events are ignored.
fn ask(
    open: &mut Open,
    event: &Value,
    is_answer: impl Fn(&Value) -> bool,
) -> Result<Value, LoginError> {
    let lost = |error: io::Error| LoginError(&symptoms::HELD_BACK, silence_or(&error));
    open.client.send(event).map_err(lost)?;
    for _ in 0..MOST_EVENTS {
        match open.client.hear() {
            Ok(Heard::Event(event)) if is_answer(&event) => return Ok(event),
            Ok(Heard::Event(_) | Heard::Ping) => {}
            Ok(Heard::Closed(why)) => {
                return Err(LoginError(of_close(&why, &symptoms::TOKEN_REFUSED), why));
            }
            Err(error) => return Err(lost(error)),
        }
    }
    Err(LoginError(&symptoms::HELD_BACK, "no answer".to_owned()))
}

fn write(
    thread: ThreadId,
    database: Option<Database>,
    open: &mut Open,
) -> Result<MessageId, LoginError> {
    // Without a database the message could not be marked deleted, so it is not sent.
    let mut database = database.ok_or_else(|| {
        let why = "not tried, since the database cannot be asked";
        LoginError(&symptoms::DATABASE_DOWN, why.to_owned())
    })?;
    let event = json!({
        "type": "chat.direct.message.send",
        "scope": "direct",
        "thread_id": thread.0,
        "body": TEXT,
        "ref": "check",
    });
    let answer = ask(open, &event, |event| event["ref"] == "check")?;
    if answer["type"] == "error" {
        let said = answer["message"].as_str().unwrap_or_default().to_owned();
        return Err(LoginError(of_code(&answer), said));
    }
    let id = MessageId(answer["message"]["id"].as_u64().unwrap_or_default());
    match database.run_again(|store| store.mark_deleted(&[id])) {
        Ok(_) => Ok(id),
        Err(problem) => Err(LoginError(
            &symptoms::DATABASE_DOWN,
            format!("stored as message {id}, which stays: {problem}"),
        )),
    }
}

/// Whether the proxy keeps a silent connection open until the service pings it.
fn stay_silent(ping: Duration, open: &mut Open) -> Finding {
    const ABOUT: &str = "silence";
    let begun = Instant::now();
    let tried = format!("be silent for {} s", ping.as_secs());
    let ended = |symptom: &Symptom, why: String| {
        let came = format!("{why} after {} s", begun.elapsed().as_secs());
        symptom.failed(ABOUT, &tried, came)
    };
    if let Err(error) = open.socket.set_read_timeout(Some(ping + LATE)) {
        return ended(&symptoms::TIMEOUT_SHORT, error.to_string());
    }
    while begun.elapsed() <= ping + LATE {
        match open.client.hear() {
            Ok(Heard::Ping) => {
                let detail = format!("{tried}: the service's ping comes through");
                return Finding::ok(ABOUT, detail);
            }
            Ok(Heard::Event(_)) => {}
            Ok(Heard::Closed(why)) => return ended(of_close(&why, &symptoms::TIMEOUT_SHORT), why),
            Err(error) if is_silence(&error) => break,
            Err(error) => return ended(&symptoms::TIMEOUT_SHORT, error.to_string()),
        }
    }
    symptoms::HELD_BACK.failed(ABOUT, &tried, "the service's ping does not come through")
}

/// Whether a read timed out.
pub(super) fn is_silence(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}

/// Why a read failed.
pub(super) fn silence_or(error: &io::Error) -> String {
    match is_silence(error) {
        true => "no answer".to_owned(),
        false => error.to_string(),
    }
}
