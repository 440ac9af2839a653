//! Wall-clock time as the install writes it: `YYYY-MM-DD HH:MM:SS` in `APP_TIMEZONE`, with the zone data
//! inside the binary (contract: operations.md). The only file that names the time-zone crate.

use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// A heartbeat older than this many seconds is stale.
pub const HEARTBEAT_STALE_SECONDS: i64 = 90;

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

    /// The time so many seconds ago, in the same form.
    pub fn text_ago(&self, seconds: u64) -> String {
        let now = Timestamp::now();
        let then = now.as_second().saturating_sub_unsigned(seconds);
        self.text(Timestamp::from_second(then).unwrap_or(now))
    }

    fn text(&self, time: Timestamp) -> String {
        time.to_zoned_datetime(self.zone.clone())
            .strftime("%Y-%m-%d %H:%M:%S")
            .to_string()
    }

    /// Seconds from a `YYYY-MM-DD HH:MM:SS` of this clock until now, negative for a time to come; `None`
    /// where `text` is no such time. A time that clocks show twice, or skip, means the instant nearest to now.
    pub fn seconds_since(&self, text: &str) -> Option<i64> {
        self.seconds_between(text, Timestamp::now())
    }

    fn seconds_between(&self, text: &str, now: Timestamp) -> Option<i64> {
        let local: DateTime = text.trim().parse().ok()?;
        let instants = self.zone.to_ambiguous_timestamp(local);
        let since = |instant: Timestamp| now.as_second() - instant.as_second();
        [instants.earlier(), instants.later()]
            .into_iter()
            .filter_map(|instant| instant.ok().map(since))
            .min_by_key(|seconds| seconds.abs())
    }
}

/// Whether a heartbeat of this age, in seconds, shows a daemon that lives. One from the future, left behind by a clock
/// that was set back, counts no longer than one from the past.
pub fn is_fresh(heartbeat_age: Option<i64>) -> bool {
    heartbeat_age.is_some_and(|age| age.abs() <= HEARTBEAT_STALE_SECONDS)
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

    /// Zones that change by an hour, by half an hour, at midnight, in the southern and the northern autumn.
    const ZONES: [&str; 10] = [
        "Europe/Berlin",
        "America/New_York",
        "America/St_Johns",
        "Australia/Lord_Howe",
        "Pacific/Chatham",
        "Pacific/Auckland",
        "America/Santiago",
        "Atlantic/Azores",
        "Asia/Beirut",
        "America/Havana",
    ];

    #[test]
    fn a01_a_heartbeat_has_its_age_through_every_change_of_ten_zones() {
        let year = "2026-01-01T00:00:00Z".parse().expect("a time");
        for name in ZONES {
            let clock = AppClock::of_zone(name).expect("bundled");
            let changes: Vec<Timestamp> = clock
                .zone
                .following(year)
                .take(4)
                .map(|change| change.timestamp())
                .collect();
            assert_eq!(changes.len(), 4, "{name}");
            let minutes = |change: &Timestamp| {
                let change = change.as_second();
                (-150..=150).map(move |minute| change + minute * 60)
            };
            for now in changes.iter().flat_map(minutes) {
                let at = |second| Timestamp::from_second(second).expect("in range");
                for age in [-90, -1, 0, 5, 90, 91, 600] {
                    let text = clock.text(at(now - age));
                    assert_eq!(
                        clock.seconds_between(&text, at(now)),
                        Some(age),
                        "{name}: {text} at {}",
                        at(now)
                    );
                }
            }
        }
    }

    #[test]
    fn a01_a_time_that_clocks_skip_means_the_instant_nearest_to_now() {
        let clock = AppClock::of_zone("Europe/Berlin").expect("bundled");
        let skipped = "2026-03-29 02:30:00";
        for (now, seconds) in [("2026-03-29T00:30:10Z", 10), ("2026-03-29T01:30:10Z", 10)] {
            let now = now.parse().expect("a time");
            assert_eq!(clock.seconds_between(skipped, now), Some(seconds));
        }
    }

    #[test]
    fn a01_a_heartbeat_is_fresh_for_ninety_seconds_also_from_the_future() {
        for (age, fresh) in [
            (Some(90), true),
            (Some(91), false),
            (Some(-90), true),
            (Some(-91), false),
            (Some(-3600), false),
            (None, false),
        ] {
            assert_eq!(is_fresh(age), fresh, "{age:?}");
        }
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
