//! Tables and times for people.

use std::io::IsTerminal;

use jiff::Timestamp;
use jiff::tz::TimeZone;

const GREEN: &str = "\x1b[32m";
const RED: &str = "\x1b[31m";
const PLAIN: &str = "\x1b[0m";

/// Lays rows out in aligned columns, without trailing blanks.
pub(super) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| visible(cell)).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or_default()).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| {
            let padding = width.saturating_sub(visible(cell));
            format!("{cell}{}", " ".repeat(padding))
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Columns a text takes on a terminal.
fn visible(text: &str) -> usize {
    let mut escaped = false;
    text.chars()
        .filter(|c| {
            let shown = !escaped && *c != '\x1b';
            escaped = (escaped && *c != 'm') || *c == '\x1b';
            shown
        })
        .count()
}

/// Whether stdout is a terminal that wants colours.
pub(super) fn is_colored() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

/// A word in green or red, on a terminal that wants colours.
pub(super) fn judged(word: &str, good: Judgement) -> String {
    match good {
        _ if !is_colored() => word.to_owned(),
        Judgement::Good => format!("{GREEN}{word}{PLAIN}"),
        Judgement::Bad => format!("{RED}{word}{PLAIN}"),
    }
}

/// Whether something is as it should be.
#[derive(Debug, Clone, Copy)]
pub(super) enum Judgement {
    Good,
    Bad,
}

/// A time of the registry in the local time of this machine, as `date -d` reads it.
pub(super) fn local_time(utc: &str) -> String {
    match utc.parse::<Timestamp>() {
        Ok(time) => time.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string(),
        Err(_) => utc.to_owned(),
    }
}

/// The same of milliseconds since 1970.
pub(super) fn local_time_of_ms(ms: i64) -> String {
    let time = Timestamp::from_millisecond(ms).map(|time| time.to_string());
    time.map_or_else(|_| format!("{ms} ms"), |time| local_time(&time))
}

/// How long ago a time of the registry was.
pub(super) fn ago(utc: &str) -> String {
    let Ok(time) = utc.parse::<Timestamp>() else { return utc.to_owned() };
    let seconds = Timestamp::now().duration_since(time).as_secs().max(0);
    span(seconds.unsigned_abs())
}

/// A span of seconds as people say it.
pub(super) fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// A text in which whatever stands for a user in a URL is starred out: it is, or comes with, a secret.
pub(super) fn without_secrets(text: &str) -> String {
    let mut shown = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        let end = after.find(['/', ',', '?', '"', '\'', ' ']).unwrap_or(after.len());
        shown.push_str(before);
        match after[..end].rfind('@') {
            Some(host) => {
                shown.push_str("***");
                rest = &after[host..];
            }
            None => rest = after,
        }
    }
    shown + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_whatever_is_in_them() {
        let row = |cells: [&str; 2]| cells.map(str::to_owned).to_vec();
        let shown =
            table(&[row(["PEER", "STATE"]), row(["é", "\x1b[32monline\x1b[0m"]), row(["longer", "x"])]);
        assert_eq!(shown, "PEER    STATE\né       \x1b[32monline\x1b[0m\nlonger  x");
    }

    #[test]
    fn no_secret_of_a_url_is_shown() {
        for (text, shown) in [
            ("nats://a:1,nats://b:2", "nats://a:1,nats://b:2"),
            ("nats://token@a:1,nats://u:p@b:2", "nats://***@a:1,nats://***@b:2"),
            ("mysql://root:p@ss@db/peers?x=1", "mysql://***@db/peers?x=1"),
            ("k = \"nats://t@a\" # mail@example", "k = \"nats://***@a\" # mail@example"),
            ("me@here", "me@here"),
        ] {
            assert_eq!(without_secrets(text), shown);
        }
    }

    #[test]
    fn spans_are_short() {
        for (seconds, shown) in [(0, "0s"), (59, "59s"), (60, "1m"), (3_660, "1h01m"), (90_000, "1d01h")] {
            assert_eq!(span(seconds), shown);
        }
    }
}
