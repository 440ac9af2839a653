//! Wall-clock time as the install writes it: `YYYY-MM-DD HH:MM:SS` in `APP_TIMEZONE`, with the zone data
//! inside the binary (contract: operations.md). The only file that names the time-zone crate.

use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// The install's time zone.
#[derive(Clone, Debug)]
pub struct AppClock {
    zone: TimeZone,
}

impl AppClock {
    /// The clock of an IANA zone such as `Pacific/Auckland`; `None` where there is no such zone.
    pub fn of_zone(name: &str) -> Option<Self> {
        TimeZone::get(name).ok().map(|zone| AppClock { zone })
    }

    /// The clock of UTC.
    pub fn utc() -> Self {
        AppClock {
            zone: TimeZone::UTC,
        }
    }

    /// Now, as `YYYY-MM-DD HH:MM:SS`.
    pub fn now_text(&self) -> String {
        self.text(Timestamp::now())
    }

    fn text(&self, time: Timestamp) -> String {
        time.to_zoned_datetime(self.zone.clone())
            .strftime("%Y-%m-%d %H:%M:%S")
            .to_string()
    }

    /// Seconds from a `YYYY-MM-DD HH:MM:SS` of this clock until now, negative for a time to come; `None`
    /// where `text` is no such time.
    pub fn seconds_since(&self, text: &str) -> Option<i64> {
        let local: DateTime = text.trim().parse().ok()?;
        let then = local.to_zoned_datetime(self.zone.clone()).ok()?.timestamp();
        Some(Timestamp::now().as_second() - then.as_second())
    }
}

/// Seconds from now until a time as HTTP writes it (`Wed, 21 Oct 2015 07:28:00 GMT`), 0 for one that has been; `None`
/// where `text` is no such time.
pub fn seconds_until(text: &str) -> Option<u64> {
    let then = jiff::fmt::rfc2822::DateTimeParser::new()
        .parse_timestamp(text.trim())
        .ok()?;
    Some(u64::try_from(then.as_second() - Timestamp::now().as_second()).unwrap_or(0))
}

/// Whole seconds since 1970.
pub fn epoch_seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_with_daylight_saving_is_followed() {
        let clock = AppClock::of_zone("Pacific/Auckland").expect("bundled");
        let at = |second| clock.text(Timestamp::from_second(second).expect("in range"));
        assert_eq!(at(1_767_225_600), "2026-01-01 13:00:00");
        assert_eq!(at(1_782_864_000), "2026-07-01 12:00:00");
    }

    #[test]
    fn a_written_time_reads_back_as_now() {
        let clock = AppClock::of_zone("America/St_Johns").expect("bundled");
        let age = clock.seconds_since(&clock.now_text()).expect("a time");
        assert!((0..=1).contains(&age), "{age}");
        assert_eq!(clock.seconds_since(""), None);
        assert_eq!(clock.seconds_since("0000-00-00 00:00:00"), None);
    }

    #[test]
    fn a_time_of_http_is_read() {
        assert_eq!(seconds_until("Wed, 21 Oct 2015 07:28:00 GMT"), Some(0));
        let later = seconds_until("Thu, 01 Jan 2150 00:00:00 GMT").expect("a time");
        assert!(later > 3_000_000_000, "{later}");
        assert_eq!(seconds_until("tomorrow"), None);
    }

    #[test]
    fn an_unknown_zone_is_none() {
        assert!(AppClock::of_zone("Mars/Olympus").is_none());
    }
}
