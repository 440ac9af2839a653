//! An HTTP response other than 101 to the handshake, and what it means.

use super::address::{Local, who_answers};
use super::service;
use super::symptoms::{self, Symptom};
use super::web_server::{Install, WebServerCheck, is_at_app_url};
use crate::config::Config;
use crate::http::Refused;
use crate::platform::printable::printable;

/// The response.
pub(super) struct Refusal {
    pub code: u16,
    /// The header `Server`, empty if absent.
    pub server: String,
    /// The header `Location`, empty if absent.
    pub to: String,
    /// The beginning of its body.
    pub body: String,
}

impl Refusal {
    /// The response in words, for the detail of a finding.
    pub(super) fn in_words(&self, reason: &str) -> String {
        let part = |word: &str, text: &str| match text {
            "" => String::new(),
            text => format!(" {word} {}", printable(text)),
        };
        let start: String = self.body.chars().take(60).collect();
        let by = part("from", &self.server);
        let to = part("to", &self.to);
        format!("{} {reason}{by}{to}, {start:?}", self.code)
    }

    /// The symptom, and what this machine adds to it, in words.
    pub(super) fn symptom(
        &self,
        way: &WebServerCheck,
        install: Install<'_>,
    ) -> (&'static Symptom, String) {
        let alone = |symptom| (symptom, String::new());
        if let Some(symptom) = self.of_itself(way) {
            let fits = |(config, _): (&Config, _)| is_at_app_url(way, config);
            return alone(
                match *symptom == symptoms::ORIGIN_REFUSED && install.is_some_and(fits) {
                    true => &symptoms::ORIGIN_STALE,
                    false => symptom,
                },
            );
        }
        let (local, who) = install.map_or((Local::Unknown, String::new()), |(config, rows)| {
            who_answers(config, rows)
        });
        if let Some(symptom) = local.trouble() {
            return (symptom, format!("; the service's address is taken{who}"));
        }
        // Apache's title for a page about a failed backend, whatever the status.
        let is_gateway = matches!(self.code, 502..=504) || self.body.contains("Proxy Error");
        match (self.code, local, install) {
            (_, Local::Nothing, Some((config, Some(rows)))) if is_gateway => {
                let (symptom, came) = service::idle(config, rows);
                (
                    symptom,
                    format!("; looked for the service's process: {came}"),
                )
            }
            (_, Local::Nothing | Local::Unknown, _) if is_gateway => alone(&symptoms::STOPPED),
            _ if is_gateway => alone(&symptoms::PORT_WRONG),
            // A web server answers with HTML. A plain line of text is from the service, to which a header is missing.
            (400, _, _) if self.body.contains(' ') && !self.body.contains('<') => {
                alone(&symptoms::UPGRADE_LOST)
            }
            (500, _, _) if self.server.starts_with("Apache") => alone(&symptoms::NO_MODULE),
            (500.., _, _) => alone(&symptoms::SERVER_FAILS),
            (404 | 410 | 426, _, _) => alone(&symptoms::NOT_PASSED),
            (400.., _, _) => alone(&symptoms::FORBIDDEN),
            _ => alone(&symptoms::NOT_PASSED),
        }
    }

    /// The symptom, if the response alone tells it.
    fn of_itself(&self, way: &WebServerCheck) -> Option<&'static Symptom> {
        let body = self.body.as_str();
        // The service's own refusals are recognised by their text, because a proxy may rewrite the head.
        let is = |refused: Refused| {
            let response = refused.response();
            let text = String::from_utf8_lossy(&response).into_owned();
            let text = text.rsplit("\r\n").next().unwrap_or_default();
            body.contains(text.trim_end())
        };
        let is_of_nginx = body.contains("503 Service Temporarily Unavailable");
        Some(match self.code {
            403 if is(Refused::Origin) => &symptoms::ORIGIN_REFUSED,
            404 if is(Refused::NotFound) => &symptoms::PATH_CHANGED,
            426 if is(Refused::UpgradeRequired) => &symptoms::UPGRADE_LOST,
            400 if body.contains("HTTPS port") || body.contains("SSL-enabled server port") => {
                &symptoms::TLS_IS_ASKED
            }
            400 if body.contains("SSL certificate") => &symptoms::LOGIN_WANTED,
            503 if is(Refused::Disabled) => &symptoms::SERVICE_OFF,
            503 if is(Refused::Full) => &symptoms::SERVICE_FULL,
            301..=308 if self.leads_to_the_same_path(way) => &symptoms::REDIRECTED,
            300..=399 => &symptoms::SENT_ELSEWHERE,
            401 | 407 => &symptoms::LOGIN_WANTED,
            429 => &symptoms::LIMITED,
            // nginx sends 503 when its own limits are reached; other web servers when the backend does not answer.
            503 if is_of_nginx => &symptoms::LIMITED,
            520..=530 => &symptoms::CDN_FAILED,
            _ => return None,
        })
    }

    fn leads_to_the_same_path(&self, way: &WebServerCheck) -> bool {
        let path = match self.to.split_once("://") {
            Some((_, rest)) => rest.find('/').map_or("", |slash| &rest[slash..]),
            None => &self.to,
        };
        let bare = |path: &str| {
            let end = path.find(['?', '#']).unwrap_or(path.len());
            path[..end].trim_end_matches('/').to_owned()
        };
        bare(path) == bare(&way.url.path)
    }
}
