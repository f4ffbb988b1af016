//! Parses times that users type, and formats times for tables: printed times can be typed again.
//!
//! ```text
//!  a span     90s  15m  2h  1h30m  3d  1w  500ms        days of 24 hours; months and years are no spans
//!  a moment   2026-11-21T10:00:00Z                      RFC 3339
//!             2026-11-21 10:00:00  2026-11-21 10:00  2026-11-21      local time
//! ```
//! Programs get RFC 3339, see the fields of the JSON.

use std::time::Duration;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Span, SpanRelativeTo, Timestamp};

/// Maximum span: clocks overflow somewhere beyond it.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// Parses a span.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a time such as 90s, 15m, 1h30m, 3d or 1w");
    let span: Span = text.parse().map_err(|_| wrong())?;
    if span.get_months() != 0 || span.get_years() != 0 {
        return Err(format!("{text:?}: months and years differ in length; say it in days, such as 30d"));
    }
    let signed = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|_| wrong())?;
    let time = Duration::try_from(signed).map_err(|_| wrong())?;
    if time > LONGEST {
        return Err(format!("{text:?} is longer than ten years"));
    }
    Ok(time)
}

/// Parses a moment.
fn moment(text: &str) -> Option<Timestamp> {
    if let Ok(moment) = text.parse() {
        return Some(moment);
    }
    let local: DateTime = text.parse().ok()?;
    local.to_zoned(TimeZone::system()).ok().map(|zoned| zoned.timestamp())
}

/// Parses a start time: a moment, or a span before now.
pub(super) fn since(text: &str) -> Result<Timestamp, String> {
    match (duration(text), moment(text)) {
        (_, Some(moment)) => Ok(moment),
        (Ok(span), None) => Timestamp::now().checked_sub(span).map_err(|error| error.to_string()),
        (Err(_), None) => Err(neither(text)),
    }
}

/// Parses an end time: a span from now, or a moment. Returns the time until then.
pub(super) fn until(text: &str) -> Result<Duration, String> {
    match (duration(text), moment(text)) {
        (Ok(span), _) => Ok(span),
        (Err(_), Some(moment)) => {
            let left = moment.duration_since(Timestamp::now());
            Duration::try_from(left).map_err(|_| format!("{text:?} is over"))
        }
        (Err(why), None) if text.parse::<Span>().is_ok() => Err(why),
        (Err(_), None) => Err(neither(text)),
    }
}

fn neither(text: &str) -> String {
    format!(
        "{text:?} is neither a time such as 90s, 1h30m or 3d nor a moment such as 2026-11-21, '2026-11-21 10:00' \
         (local time) or 2026-11-21T10:00:00Z"
    )
}

/// A moment in RFC 3339 in the local time zone, or in UTC if the zone is unknown.
pub(super) fn local_time(utc: &str) -> String {
    match utc.parse::<Timestamp>() {
        Ok(time) => shown(time),
        Err(_) => utc.to_owned(),
    }
}

/// Like [`local_time`], from milliseconds since 1970.
pub(super) fn local_time_of_ms(ms: i64) -> String {
    Timestamp::from_millisecond(ms).map_or_else(|_| format!("{ms} ms"), shown)
}

fn shown(time: Timestamp) -> String {
    let zone = TimeZone::system();
    let mark = if zone.is_unknown() { "Z" } else { "" };
    format!("{}{mark}", time.to_zoned(zone).strftime("%Y-%m-%d %H:%M:%S"))
}

/// How long ago a moment was.
pub(super) fn ago(utc: &str) -> String {
    let Ok(time) = utc.parse::<Timestamp>() else { return utc.to_owned() };
    let seconds = Timestamp::now().duration_since(time).as_secs().max(0);
    span(seconds.unsigned_abs())
}

/// A span of seconds for display.
pub(super) fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3600;

    #[test]
    fn spans_are_read_as_people_write_them() {
        for (text, seconds) in [
            ("90s", 90),
            ("15m", 15 * 60),
            ("1h30m", HOUR + 30 * 60),
            ("2d", 48 * HOUR),
            ("1w", 7 * 24 * HOUR),
            ("1w2d3h", 9 * 24 * HOUR + 3 * HOUR),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        for wrong in
            ["", "5", "-3s", "soon", "5 parsecs", "1mo", "1y", "3d ago", "2562047788015215h", "9999w"]
        {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_shown_can_be_typed_again() {
        let moment: Timestamp = "2026-11-21T10:00:07Z".parse().expect("a moment");
        assert_eq!(since(&shown(moment)), Ok(moment));
        assert_eq!(since("2026-11-21T10:00:07Z"), Ok(moment));
        let day = since("2026-11-21").expect("a date");
        assert_eq!(since("2026-11-21 00:00"), Ok(day));
        assert_eq!(since("2026-11-21T00:00:00"), Ok(day));
        let then = since("2d").expect("a span");
        let ago = Timestamp::now().duration_since(then).as_secs();
        assert!((2 * 86_400..2 * 86_400 + 60).contains(&ago), "{ago}");
        for wrong in ["", "yesterday", "2026-13-01", "10:00 2026", "2026"] {
            assert!(since(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn until_is_a_span_or_a_moment_to_come() {
        assert_eq!(until("3d"), Ok(Duration::from_secs(72 * HOUR)));
        let moment = Timestamp::now() + Duration::from_secs(2 * HOUR);
        let left = until(&moment.to_string()).expect("to come").as_secs();
        assert!((2 * HOUR - 60..=2 * HOUR).contains(&left), "{left}");
        assert!(until("2020-01-01").is_err_and(|why| why.contains("is over")));
    }

    #[test]
    fn spans_are_short() {
        for (seconds, shown) in [(0, "0s"), (59, "59s"), (60, "1m"), (3_660, "1h01m"), (90_000, "1d01h")] {
            assert_eq!(span(seconds), shown);
        }
    }
}
