//! Time series drawn in the terminal: lines of braille dots, an axis of values, one of time, and a legend.

use std::io::{self, Write};

use super::series::{Answer, Series, Unit};
use super::series_table::print_limits;
use super::text::{BOLD, DIM, Style, fit, series_colour, time_in_seconds, width};

/// In lines of text.
const HEIGHT: usize = 14;
/// Dots of a character, as Unicode's braille patterns have them.
const DOTS_WIDE: usize = 2;
const DOTS_HIGH: usize = 4;
/// As many as there are colours.
const SERIES_MAX: usize = 6;

/// Draws the highest series and names them below.
pub(super) fn print(
    out: &mut dyn Write,
    answer: &Answer,
    unit: Unit,
    series_max: usize,
    style: &Style,
) -> io::Result<()> {
    let shown = &answer.series[..answer.series.len().min(series_max).min(SERIES_MAX)];
    let Some(range) = Range::of(shown) else {
        return print_limits(out, answer, shown.len());
    };
    let marks: [String; 3] = [range.high, (range.high + range.low) / 2.0, range.low].map(|value| unit.format(value));
    let axis_width = marks.iter().map(|mark| width(mark)).max().unwrap_or(0);
    let mut canvas = Canvas::new(style.width.saturating_sub(axis_width + 3));
    // The highest is drawn last, over the others.
    for (at, series) in shown.iter().enumerate().rev() {
        canvas.draw(at, series, &range, answer.steps);
    }
    for row in 0..HEIGHT {
        let mark = match row {
            0 => &marks[0],
            row if row == HEIGHT / 2 => &marks[1],
            row if row == HEIGHT - 1 => &marks[2],
            _ => "",
        };
        let axis = if mark.is_empty() { '│' } else { '┤' };
        writeln!(out, "{mark:>axis_width$} {}{}", style.paint(DIM, axis), canvas.row(row, shown.len(), style))?;
    }
    print_times(out, answer, axis_width, canvas.columns, style)?;
    for (at, series) in shown.iter().enumerate() {
        let last = series.values.last().copied().flatten();
        let last = last.map_or(String::new(), |value| format!("  {}", unit.format(value)));
        let room = style.width.saturating_sub(width(&last) + 2);
        let mark = style.paint(series_colour(at), mark_of(at, shown.len(), style));
        writeln!(out, "{mark} {}{}", fit(&series.name(), room), style.paint(BOLD, last))?;
    }
    print_limits(out, answer, shown.len())
}

/// The begin and the end of the time that is drawn.
fn print_times(
    out: &mut dyn Write,
    answer: &Answer,
    axis_width: usize,
    columns: usize,
    style: &Style,
) -> io::Result<()> {
    let start = answer.start_unix_nanos();
    let length = answer.step_nanos.saturating_mul(i64::try_from(answer.steps).unwrap_or(i64::MAX));
    let (begin, end) = (time_in_seconds(start), time_in_seconds(start.saturating_add(length)));
    let gap = columns.saturating_sub(begin.len() + end.len()).max(1);
    writeln!(out, "{:axis_width$} {}", "", style.paint(DIM, format!("└{}", "─".repeat(columns))))?;
    writeln!(out, "{:axis_width$}  {begin}{}{end}", "", " ".repeat(gap))
}

/// Colours tell lines apart; without colours, letters do.
fn mark_of(at: usize, series: usize, style: &Style) -> char {
    if style.colours || series == 1 { '━' } else { letter(at) }
}

fn letter(at: usize) -> char {
    char::from(b'a' + (at % 26) as u8)
}

/// The values that the chart spans.
struct Range {
    low: f64,
    high: f64,
}

impl Range {
    /// From zero, so that heights compare; `None` if there are no values.
    fn of(series: &[Series]) -> Option<Self> {
        let lowest = series.iter().flat_map(Series::points).reduce(f64::min)?;
        let highest = series.iter().flat_map(Series::points).reduce(f64::max)?;
        let (low, high) = (lowest.min(0.0), highest.max(0.0));
        Some(if low < high { Self { low, high } } else { Self { low, high: low + 1.0 } })
    }
}

/// Dots, four by two in each character, and whose they are.
struct Canvas {
    columns: usize,
    dots: Vec<u8>,
    /// The series drawn last in each character.
    owner: Vec<usize>,
}

impl Canvas {
    fn new(columns: usize) -> Self {
        let columns = columns.max(1);
        Self { columns, dots: vec![0; columns * HEIGHT], owner: vec![0; columns * HEIGHT] }
    }

    /// A line through the points of neighbouring steps. Steps without a value break it.
    fn draw(&mut self, at: usize, series: &Series, range: &Range, steps: usize) {
        let (width, height) = (self.columns * DOTS_WIDE, HEIGHT * DOTS_HIGH);
        let place = |step: usize, value: f64| {
            let across = (step as f64 + 0.5) / steps.max(1) as f64 * width as f64;
            let up = (value - range.low) / (range.high - range.low) * (height - 1) as f64;
            ((across as usize).min(width - 1), height - 1 - (up.round() as usize).min(height - 1))
        };
        let mut before = None;
        for (step, value) in series.values.iter().enumerate() {
            let point = value.map(|value| place(step, value));
            if let Some(to) = point {
                self.line(at, before.unwrap_or(to), to);
            }
            before = point;
        }
    }

    /// As many dots as the longer side has, evenly spaced.
    fn line(&mut self, at: usize, from: (usize, usize), to: (usize, usize)) {
        let dots = from.0.abs_diff(to.0).max(from.1.abs_diff(to.1)).max(1);
        for dot in 0..=dots {
            let between = |from: usize, to: usize| {
                (from as f64 + (to as f64 - from as f64) * dot as f64 / dots as f64).round() as usize
            };
            self.set(at, between(from.0, to.0), between(from.1, to.1));
        }
    }

    fn set(&mut self, at: usize, x: usize, y: usize) {
        // The bits of U+2800..U+28FF: dots are numbered down the columns, the lowest row was added later.
        const BITS: [[u8; DOTS_WIDE]; DOTS_HIGH] = [[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]];
        let cell = y / DOTS_HIGH * self.columns + x / DOTS_WIDE;
        self.dots[cell] |= BITS[y % DOTS_HIGH][x % DOTS_WIDE];
        self.owner[cell] = at;
    }

    fn row(&self, row: usize, series: usize, style: &Style) -> String {
        const BRAILLE: u32 = 0x2800;
        let cells = row * self.columns..(row + 1) * self.columns;
        let mut text = String::new();
        for (dots, owner) in self.dots[cells.clone()].iter().zip(&self.owner[cells]) {
            let braille = char::from_u32(BRAILLE + u32::from(*dots)).unwrap_or(' ');
            match dots {
                0 => text.push(' '),
                _ if style.colours => text.push_str(&style.paint(series_colour(*owner), braille)),
                _ if series == 1 => text.push(braille),
                _ => text.push(letter(*owner)),
            }
        }
        text.trim_end().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(series: &str, width: usize) -> Vec<String> {
        let answer = format!(
            r#"{{"startTimeUnixNano":"1709210096000000000","stepNanos":60000000000,"steps":4,"series":{series}}}"#
        );
        let answer = serde_json::from_str(&answer).expect("the test's answer is one of metrics");
        let mut out = Vec::new();
        print(&mut out, &answer, Unit::SpansPerSecond, 20, &Style { colours: false, width })
            .expect("writing to memory cannot fail");
        String::from_utf8(out).expect("what is printed is text").lines().map(str::to_owned).collect()
    }

    #[test]
    fn draws_one_series() {
        let lines = printed(r#"[{"labels":[],"values":[0,2,null,4]}]"#, 60);
        assert!(lines[0].starts_with("4/s ┤") && lines[0].ends_with(|dots| ('\u{2801}'..='\u{28ff}').contains(&dots)));
        assert!(lines[HEIGHT / 2].starts_with("2/s ┤") && lines[HEIGHT - 1].starts_with("0/s ┤"));
        assert!(lines[HEIGHT].trim_start().starts_with("└──"));
        assert!(lines[HEIGHT + 1].contains("2024-02-29T12:34:56Z") && lines[HEIGHT + 1].ends_with("12:38:56Z"));
        assert_eq!(lines[HEIGHT + 2], "━ {}  4/s");
        assert!(lines.iter().all(|line| line.chars().count() <= 60), "{lines:#?}");
        // The third step has no value: nothing is drawn between the second and the fourth.
        let column = 60 * 5 / 8;
        let drawn = |line: &String| line.chars().nth(column).is_some_and(|dots| dots > '\u{2800}' && dots < '\u{2900}');
        assert!(!lines[..HEIGHT].iter().any(drawn), "{lines:#?}");
    }

    #[test]
    fn letters_tell_series_apart_without_colours() {
        let series = r#"[{"labels":[{"key":"p","value":0.9}],"values":[4,4,4,4]},{"labels":[{"key":"p","value":0.5}],"values":[1,1,1,1]}]"#;
        let lines = printed(series, 60);
        assert!(lines[0].contains("aaaa") && lines.iter().any(|line| line.contains("bbbb")));
        assert_eq!(&lines[HEIGHT + 2..], ["a p=0.9  4/s", "b p=0.5  1/s"]);
    }

    #[test]
    fn one_step_and_no_values_are_fine() {
        assert_eq!(printed("[]", 60), ["no series: no span matches"]);
        assert!(printed(r#"[{"labels":[],"values":[0,0,0,0]}]"#, 60).len() > HEIGHT);
        assert!(printed(r#"[{"labels":[],"values":[null,null,-3,null]}]"#, 60)[0].trim_start().starts_with("0/s ┤"));
    }
}
