//! `check`: to run before the first start, and whenever something does not work. Every finding names its subject, its
//! state, and a remedy if that is not ok. Changes nothing, except for the message that `--thread` asks for.

mod address;
mod database;
mod installation;
mod login;
mod refusal;
mod service;
pub mod symptoms;
mod tls;
mod web_server;

use std::error::Error;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

use super::Database;
use super::style::{Style, Tone};
use crate::config::{self, Config, Variables};
use crate::platform::exit_code;
use crate::platform::printable::printable;
use crate::platform::problem::Problem;
use crate::store::Store;

pub use web_server::{Login, WebServerCheck};

/// The result of one check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Passed.
    Ok,
    /// The service runs, but with reduced function.
    Warning,
    /// The service does not run like this.
    Failed,
    /// It could not be checked.
    Skipped,
}

impl Level {
    fn word(self) -> &'static str {
        match self {
            Level::Ok => "ok",
            Level::Warning => "warning",
            Level::Failed => "failed",
            Level::Skipped => "skipped",
        }
    }
}

/// One thing that was checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The result.
    pub level: Level,
    /// What was checked.
    pub about: &'static str,
    /// The result in words.
    pub detail: String,
    /// What to do; only for a warning or a failure.
    pub remedy: Option<String>,
}

impl Finding {
    fn ok(about: &'static str, detail: impl Into<String>) -> Self {
        Finding {
            level: Level::Ok,
            about,
            detail: detail.into(),
            remedy: None,
        }
    }

    fn warning(about: &'static str, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Finding {
            level: Level::Warning,
            about,
            detail: detail.into(),
            remedy: Some(remedy.into()),
        }
    }

    fn doubt(about: &'static str, problem: &Problem) -> Self {
        Finding::warning(
            about,
            problem.detail(),
            problem.remedy().unwrap_or_default(),
        )
    }

    fn failed(about: &'static str, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Finding {
            level: Level::Failed,
            ..Finding::warning(about, detail, remedy)
        }
    }

    fn skipped(about: &'static str, why: &str) -> Self {
        Finding {
            level: Level::Skipped,
            ..Finding::ok(about, why)
        }
    }

    /// Splits a configuration error at its first semicolon into detail and remedy.
    fn of_config(about: &'static str, error: &dyn Error) -> Self {
        let message = error.to_string();
        match message.split_once("; ") {
            Some((detail, remedy)) => Finding::failed(about, detail, remedy),
            None => Finding::failed(about, message, "correct it"),
        }
    }
}

/// Checks everything that a start needs and, if a URL is given, the way through the proxy. A failure does not end it.
pub fn look(
    root: &Path,
    open: impl Fn(&Config) -> Arc<dyn Store>,
    way: Option<&WebServerCheck>,
    notes: &mut dyn Write,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let read = Variables::load(root).and_then(|variables| {
        variables.wrong_folder().map_or(Ok(()), Err)?;
        installation::dotenv(root, &mut findings);
        let variables = variables.gathering();
        installation::variables(&variables, &mut findings);
        let config = Config::without_secret(root, &variables)?;
        Ok((variables, config))
    });
    let (variables, config) = match read {
        Ok(read) => read,
        Err(error) => {
            findings.push(Finding::of_config("configuration", &error));
            let why = "the configuration cannot be read";
            skip(&mut findings, &OF_CONFIGURATION, why);
            skip(&mut findings, &OF_DATABASE, why);
            installation::user(&mut findings);
            if let Some(way) = way {
                web_server::follow(way, None, None, notes, &mut findings);
            }
            return findings;
        }
    };
    for error in variables.gathered() {
        let finding = Finding::of_config("configuration", &error);
        // The checks above may have reported it already.
        if !findings.iter().any(|one| one.detail == finding.detail) {
            findings.push(finding);
        }
    }
    installation::links(&config, &variables, &mut findings);
    installation::user(&mut findings);
    installation::storage(&config, &mut findings);
    let rows = match config::database(root, &variables) {
        Ok(_) => database::look(&config, &mut Database::new(open(&config)), &mut findings),
        Err(_) => {
            let why = "the configuration names no database";
            skip(&mut findings, &OF_DATABASE, why);
            None
        }
    };
    let is_known = rows.is_some();
    let rows = rows.unwrap_or_default();
    installation::app_url(&config, &rows, &mut findings);
    installation::installed(root, &config, &rows, &mut findings);
    installation::room(&config, &rows, &mut findings);
    if is_known {
        service::look(&config, &rows, &mut findings);
    }
    let has_address = is_known || (config.host.is_some() && config.port.is_some());
    match has_address {
        true => address::listen(&config, &rows, &mut findings),
        false => skip(&mut findings, &["address"], "the settings cannot be read"),
    }
    if let Some(way) = way {
        let database = is_known.then(|| Database::new(open(&config)));
        let jwt_secret = config::jwt_secret(&variables).unwrap_or_default();
        let config = Config {
            jwt_secret,
            ..config
        };
        let install = Some((&config, has_address.then_some(&rows)));
        web_server::follow(way, install, database, notes, &mut findings);
    }
    findings
}

/// What cannot be checked without a configuration.
const OF_CONFIGURATION: [&str; 7] = [
    "secret",
    "time zone",
    "limits",
    "storage",
    "APP_URL",
    "room",
    "address",
];
/// What cannot be checked without a database.
const OF_DATABASE: [&str; 6] = ["database", "line", "tables", "settings", "rights", "clocks"];

/// Adds a skipped finding for each subject that has no finding yet.
fn skip(findings: &mut Vec<Finding>, abouts: &[&'static str], why: &str) {
    for about in abouts {
        if !findings.iter().any(|one| one.about == *about) {
            findings.push(Finding::skipped(about, why));
        }
    }
}

/// 0, or 1 if any check failed.
pub fn exit_code(findings: &[Finding]) -> u8 {
    match findings.iter().any(|one| one.level == Level::Failed) {
        true => exit_code::FAILED,
        false => exit_code::OK,
    }
}

/// The findings for people: a line each with its remedy below, then the counts. With `quiet`, only the findings that are
/// not ok, and no counts.
pub fn text(findings: &[Finding], quiet: bool, style: Style) -> String {
    let mut text = String::new();
    for finding in findings {
        if quiet && finding.level == Level::Ok {
            continue;
        }
        let word = finding.level.word();
        let tone = match finding.level {
            Level::Ok => Tone::Good,
            Level::Warning | Level::Skipped => Tone::Doubtful,
            Level::Failed => Tone::Bad,
        };
        let pad = " ".repeat(9 - word.len());
        text.push_str(&format!(
            "{}{pad}{:<14}{}\n",
            style.paint(tone, word),
            finding.about,
            printable(&finding.detail)
        ));
        if let Some(remedy) = &finding.remedy {
            text.push_str(&format!("{}-> {}\n", " ".repeat(23), printable(remedy)));
        }
    }
    if !quiet {
        text.push_str(&sum(findings));
    }
    text
}

/// The number of findings of each level that occurs.
fn sum(findings: &[Finding]) -> String {
    let levels = [Level::Ok, Level::Warning, Level::Failed, Level::Skipped];
    let parts: Vec<String> = levels
        .into_iter()
        .filter_map(|level| {
            let count = findings.iter().filter(|one| one.level == level).count();
            (count > 0).then(|| format!("{count} {}", level.word()))
        })
        .collect();
    format!("{}\n", parts.join(", "))
}
