//! Time as the install writes it, worked out beside the program under test.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};

use super::daemon::TIMEZONE;

fn zone() -> TimeZone {
    TimeZone::get(TIMEZONE).expect("the zone data is in the crate")
}

/// So many seconds from now, as `YYYY-MM-DD HH:MM:SS` in the zone of the installs.
pub fn app_time(seconds: i64) -> String {
    let time = Timestamp::now() + Span::new().seconds(seconds);
    let local = time.to_zoned_datetime(zone());
    local.strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// How long ago such a time was, in seconds; none if it is no time.
pub fn seconds_since(text: &str) -> Option<i64> {
    let local: DateTime = text.parse().ok()?;
    let then = local.to_zoned_datetime(zone()).ok()?;
    Some(Timestamp::now().as_second() - then.timestamp().as_second())
}
