//! What a rendered text may use: width, color, time zone; and how text is laid out within it.
//!
//! Renderers are pure: they get a [`Screen`] and give a `String`. Only [`Screen::of_stdout`] asks the system.

use crate::text::visible;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::fmt::Write;
use std::io::{IsTerminal, stdout};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Where a text will stand.
#[derive(Debug, Clone)]
pub struct Screen {
    /// Columns; lines are cut here. `None`: not a terminal, nothing is cut.
    pub width: Option<usize>,
    /// Lines.
    pub height: usize,
    /// Whether colors and weight may be used.
    pub paint: bool,
    /// The reader's clock.
    pub zone: TimeZone,
}

/// How a piece of text stands out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ink {
    /// A name that the eye should find.
    Bold,
    /// What matters less.
    Dim,
    /// Wrong now.
    Bad,
    /// Needs somebody.
    Warn,
    /// Passed.
    Good,
    /// The color named blue, and only that.
    Blue,
    /// The color named green, and only that.
    Green,
}

/// Narrowest screen that is laid out for; below it lines are just cut.
const NARROWEST: usize = 40;

// === impl Screen ===

impl Screen {
    /// What standard output is.
    pub fn of_stdout() -> Self {
        let terminal = stdout().is_terminal();
        let (width, height) = size();
        Screen {
            width: terminal.then_some(width),
            height,
            paint: terminal && paints(std::env::var_os("NO_COLOR"), std::env::var_os("TERM")),
            zone: TimeZone::system(),
        }
    }

    /// Columns to lay out for.
    pub fn columns(&self) -> usize {
        self.width.unwrap_or(100).max(NARROWEST)
    }

    /// `text`, standing out where the screen can.
    pub fn ink(&self, ink: Ink, text: impl AsRef<str>) -> String {
        let text = text.as_ref();
        if !self.paint || text.is_empty() {
            return text.to_owned();
        }
        let code = match ink {
            Ink::Bold => "1",
            Ink::Dim => "2",
            Ink::Bad => "31",
            Ink::Warn => "33",
            // Not green: the color named green is no better than the one named blue.
            Ink::Good => "36",
            Ink::Blue => "94",
            Ink::Green => "92",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }

    /// A day's time: `21:04:05`.
    pub fn clock(&self, ms: u64) -> String {
        self.time(ms, "%H:%M:%S")
    }

    /// Date and time: `2026-11-23 21:04:05`.
    pub fn date(&self, ms: u64) -> String {
        self.time(ms, "%Y-%m-%d %H:%M:%S")
    }

    fn time(&self, ms: u64, format: &str) -> String {
        i64::try_from(ms)
            .ok()
            .and_then(|ms| Timestamp::from_millisecond(ms).ok())
            .map_or_else(|| "?".to_owned(), |at| at.to_zoned(self.zone.clone()).strftime(format).to_string())
    }

    /// `text` after `label`, in lines that fit, each further one indented under the first.
    pub fn paragraph(&self, label: &str, text: &str) -> String {
        let indent = width(label);
        let room = self.columns().saturating_sub(indent).max(20);
        let mut lines = vec![String::new()];
        for word in words(&visible(text)) {
            let word = word.as_str();
            let taken = lines.last().map_or(0, |line| width(line));
            if taken > 0 && taken + 1 + width(word) > room {
                lines.push(word.to_owned());
            } else if let Some(line) = lines.last_mut() {
                if taken > 0 {
                    line.push(' ');
                }
                line.push_str(word);
            }
        }
        let mut out = String::new();
        for (index, line) in lines.iter().enumerate() {
            let head = if index == 0 { self.ink(Ink::Dim, label) } else { " ".repeat(indent) };
            let _ = writeln!(out, "{head}{line}");
        }
        out
    }

    /// `text` with every line cut to the width.
    pub fn cut(&self, text: &str) -> String {
        let Some(width) = self.width else { return text.to_owned() };
        text.lines().map(|line| cut_line(line, width) + "\n").collect()
    }
}

/// The pieces of a text between which a line may end: never inside `1 : 12 000` or a
/// command, nor between a figure and its unit.
fn words(text: &str) -> Vec<String> {
    const UNITS: [&str; 8] = ["%", ":", "ms", "s", "min", "h", "d", "/"];
    let mut out: Vec<String> = Vec::new();
    for word in text.split(' ') {
        let figure = |c: char| c.is_ascii_digit();
        let bare = word.trim_end_matches([',', ';', '.', ':', ')']);
        match out.last_mut() {
            Some(last)
                if last.ends_with(" :")
                    || last.matches('`').count() % 2 == 1
                    || (last.ends_with(figure)
                        && (word == ":"
                            || UNITS.contains(&bare)
                            || (bare.len() == 3 && bare.chars().all(figure)))) =>
            {
                last.push(' ');
                last.push_str(word);
            }
            _ => out.push(word.to_owned()),
        }
    }
    out
}

/// Rows in aligned columns, two blanks apart; the last column is not filled up.
pub fn columns(rows: &[Vec<String>]) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..count)
        .map(|column| {
            rows.iter().filter_map(|row| row.get(column)).map(|cell| width(cell)).max().unwrap_or(0)
        })
        .collect();
    let mut out = String::new();
    for row in rows {
        let mut line = String::new();
        for (index, (cell, wide)) in row.iter().zip(&widths).enumerate() {
            line.push_str(cell);
            if index + 1 < row.len() {
                line.push_str(&" ".repeat(wide.saturating_sub(width(cell)) + 2));
            }
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// Columns that `text` takes on a terminal, not counting our own escapes.
pub fn width(text: &str) -> usize {
    if !text.contains('\x1b') {
        return text.width();
    }
    pieces(text).filter(|(escape, _)| !escape).map(|(_, piece)| piece.width()).sum()
}

/// `text` of at most `room` columns, with `…` where something is missing.
pub fn cut_line(text: &str, room: usize) -> String {
    if width(text) <= room {
        return text.to_owned();
    }
    let mut out = String::new();
    let mut left = room.saturating_sub(1);
    let mut escaped = false;
    for (escape, piece) in pieces(text) {
        if escape {
            out.push_str(piece);
            escaped = true;
            continue;
        }
        for character in piece.chars() {
            let wide = character.width().unwrap_or(0);
            if wide > left {
                out.push('…');
                if escaped {
                    out.push_str("\x1b[0m");
                }
                return out;
            }
            left -= wide;
            out.push(character);
        }
    }
    out
}

/// Splits into (whether it is one of our escapes, the piece).
fn pieces(text: &str) -> impl Iterator<Item = (bool, &str)> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = match rest.strip_prefix('\x1b') {
            // Ours all end in `m`.
            Some(after) => after.find('m').map_or(rest.len(), |at| at + 2),
            None => rest.find('\x1b').unwrap_or(rest.len()),
        };
        let (piece, tail) = rest.split_at(end);
        rest = tail;
        Some((piece.starts_with('\x1b'), piece))
    })
}

/// A terminal's size now, or a usual one.
pub fn size() -> (usize, usize) {
    match rustix::termios::tcgetwinsize(stdout()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col.into(), size.ws_row.into()),
        _ => (80, 24),
    }
}

/// The conventions of no-color.org and of terminals that cannot.
fn paints(no_color: Option<std::ffi::OsString>, term: Option<std::ffi::OsString>) -> bool {
    no_color.is_none_or(|value| value.is_empty()) && term.is_none_or(|term| term != "dumb")
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn plain(width: usize) -> Screen {
        Screen { width: Some(width), height: 24, paint: false, zone: TimeZone::UTC }
    }

    #[test]
    fn lines_are_cut_by_columns_and_not_by_bytes() {
        assert_eq!(cut_line("größer als zehn", 8), "größer …");
        assert_eq!(cut_line("模型模型模型", 5), "模型…");
        assert_eq!(cut_line("\x1b[31mrot und lang\x1b[0m", 5), "\x1b[31mrot …\x1b[0m");
        assert_eq!(cut_line("short", 5), "short");
    }

    #[test]
    fn paragraphs_wrap_under_their_label() {
        assert_eq!(
            plain(40).paragraph("waits  ", "for evidence: about 40 more candidate sessions"),
            "waits  for evidence: about 40 more\n       candidate sessions\n"
        );
    }

    #[test]
    fn a_figure_stays_with_its_unit() {
        assert_eq!(
            words("odds 1 : 12 000 of being chance; off 7 s after, 5 % more"),
            ["odds", "1 : 12 000", "of", "being", "chance;", "off", "7 s", "after,", "5 %", "more"]
        );
    }

    #[test]
    fn columns_line_up_also_with_color() {
        let painted = Screen { paint: true, ..plain(80) };
        let rows = [
            vec!["a".to_owned(), painted.ink(Ink::Bad, "bad"), "x".to_owned()],
            vec!["long".into(), "b".into(), "y".into()],
        ];
        assert_eq!(columns(&rows), "a     \x1b[31mbad\x1b[0m  x\nlong  b    y\n");
    }

    #[test]
    fn no_color_and_dumb_terminals_are_honored() {
        assert!(paints(None, Some("xterm".into())));
        assert!(paints(Some("".into()), None));
        assert!(!paints(Some("1".into()), None));
        assert!(!paints(None, Some("dumb".into())));
    }

    #[test]
    fn times_are_told_in_the_readers_zone() {
        assert_eq!(plain(80).date(1_795_467_845_000), "2026-11-23 21:04:05");
    }
}
