//! `check`: a look before the first start, and whenever something does not work. Every finding says what it is about,
//! how that stands, and what to do where it does not stand well. Changes nothing.

mod address;
mod database;
mod installation;

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

use super::probe::Url;
use super::style::{Style, Tone};
use super::{Database, Problem};
use crate::config::{Config, ConfigError, Variables};
use crate::exit_code;
use crate::store::Store;

/// How something stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// The service runs; somebody may miss something.
    Warning,
    /// The service does not run like this.
    Failed,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How it stands.
    pub level: Level,
    /// What it is.
    pub about: &'static str,
    /// How it stands, in words.
    pub detail: String,
    /// What to do; only where it is not ok.
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

    fn failed(about: &'static str, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Finding {
            level: Level::Failed,
            ..Finding::warning(about, detail, remedy)
        }
    }

    /// An error of the configuration has its remedy behind the last semicolon.
    fn of_config(about: &'static str, error: &ConfigError) -> Self {
        match error.0.split_once("; ") {
            Some((detail, remedy)) => Finding::failed(about, detail, remedy),
            None => Finding::failed(about, error.0.clone(), "correct it"),
        }
    }
}

/// Looks at everything that a start needs, and through the proxy where a URL is given.
pub fn look(
    root: &Path,
    open: impl Fn(&Config) -> Arc<dyn Store>,
    url: Option<&Url>,
) -> Vec<Finding> {
    let mut findings = installation::dotenv(root);
    let variables = match Variables::load(root) {
        Ok(variables) => variables,
        Err(error) => {
            findings.push(Finding::of_config("configuration", &error));
            return findings;
        }
    };
    installation::variables(root, &variables, &mut findings);
    let config = match Config::from_variables(root, &variables) {
        Ok(config) => config,
        // What it is stands above already, or is a limit.
        Err(error) => {
            let finding = Finding::of_config("configuration", &error);
            if !findings.iter().any(|one| one.detail == finding.detail) {
                findings.push(finding);
            }
            return findings;
        }
    };
    installation::storage(&config, &mut findings);
    let mut asked = Database::new(open(&config));
    let rows = database::look(&mut asked, &mut findings).unwrap_or_default();
    address::listen(&config, &rows, &mut findings);
    if let Some(url) = url {
        address::proxy(&config, url, &mut findings);
    }
    findings
}

/// 0, or 1 where anything has failed.
pub fn exit_code(findings: &[Finding]) -> u8 {
    match findings.iter().any(|one| one.level == Level::Failed) {
        true => exit_code::FAILED,
        false => exit_code::OK,
    }
}

/// Writes the findings as a JSON list.
///
/// # Errors
/// The writer fails.
pub fn write_json(findings: &[Finding], out: &mut dyn Write) -> Result<(), Problem> {
    let text = serde_json::to_string_pretty(findings).unwrap_or_default();
    writeln!(out, "{text}").map_err(|error| Problem::of_output(&error))
}

/// Writes the findings for people, a line each, and the remedy below where there is one.
///
/// # Errors
/// The writer fails.
pub fn write_text(findings: &[Finding], style: Style, out: &mut dyn Write) -> Result<(), Problem> {
    for finding in findings {
        let (tone, word) = match finding.level {
            Level::Ok => (Tone::Good, "ok"),
            Level::Warning => (Tone::Doubtful, "warning"),
            Level::Failed => (Tone::Bad, "failed"),
        };
        let pad = " ".repeat(9 - word.len());
        let mut text = format!(
            "{}{pad}{:<14}{}\n",
            style.paint(tone, word),
            finding.about,
            finding.detail
        );
        if let Some(remedy) = &finding.remedy {
            text.push_str(&format!("{}-> {remedy}\n", " ".repeat(23)));
        }
        out.write_all(text.as_bytes())
            .map_err(|error| Problem::of_output(&error))?;
    }
    Ok(())
}
