use std::io::{self, Write};

use comfy_table::{CellAlignment, ColumnConstraint, Width};

use super::columns;
use super::series::{Answer, Series, Unit};
use super::text::{Style, fit};

/// Prints one line per series: its last, smallest, largest and mean value.
pub(super) fn print(
    out: &mut dyn Write,
    answer: &Answer,
    unit: Unit,
    series_max: usize,
    style: &Style,
) -> io::Result<()> {
    const NUMBER_WIDTH: u16 = 12;
    let numbers = ["LAST", "MIN", "MAX", "AVG"];
    let shown = &answer.series[..answer.series.len().min(series_max)];
    let room = style.width.saturating_sub(numbers.len() * usize::from(NUMBER_WIDTH)).max(12);
    let mut table = columns::under(["SERIES"].into_iter().chain(numbers).map(str::to_owned));
    for series in shown {
        let values = summary(series).map(|value| value.map_or("-".to_owned(), |value| unit.format(value)));
        table.add_row([fit(&series.name(), room)].into_iter().chain(values));
    }
    for (at, column) in table.column_iter_mut().enumerate() {
        if at == 0 {
            column.set_padding((0, 0));
        } else {
            column.set_padding((2, 0)).set_cell_alignment(CellAlignment::Right);
            column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(NUMBER_WIDTH)));
        }
    }
    if !shown.is_empty() {
        columns::print(out, &table, style)?;
    }
    print_limits(out, answer, shown.len())
}

/// What the print does not show, and what the answer does not hold.
pub(super) fn print_limits(out: &mut dyn Write, answer: &Answer, shown: usize) -> io::Result<()> {
    if shown < answer.series.len() {
        writeln!(out, "showing {shown} of {} series", answer.series.len())?;
    }
    if let Some(reason) = &answer.partial_reason {
        writeln!(out, "not complete: {reason}")?;
    }
    if answer.series.is_empty() {
        writeln!(out, "no series: no span matches")?;
    }
    Ok(())
}

/// Last, smallest, largest and mean value, of those that there are.
fn summary(series: &Series) -> [Option<f64>; 4] {
    let count = series.points().count() as f64;
    let mean = series.points().sum::<f64>() / count;
    [
        series.values.last().copied().flatten(),
        series.points().reduce(f64::min),
        series.points().reduce(f64::max),
        (count > 0.0).then_some(mean),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(series: &str, series_max: usize) -> Vec<String> {
        let answer =
            format!(r#"{{"startTimeUnixNano":"0","stepNanos":1,"steps":3,"series":{series},"partialReason":null}}"#);
        let answer = serde_json::from_str(&answer).expect("the test's answer is one of metrics");
        let mut out = Vec::new();
        print(&mut out, &answer, Unit::Seconds, series_max, &Style { colours: false, width: 80 })
            .expect("writing to memory cannot fail");
        String::from_utf8(out).expect("what is printed is text").lines().map(str::to_owned).collect()
    }

    #[test]
    fn prints_a_table() {
        let series = r#"[{"labels":[{"key":"name","type":"string","value":"GET /"}],"values":[0.25,null,0.75]},
            {"labels":[{"key":"name","type":"empty","value":null}],"values":[1,2,null]},
            {"labels":[],"values":[null,null,null]}]"#;
        assert_eq!(
            printed(series, 9),
            [
                "SERIES            LAST         MIN         MAX         AVG",
                "name=GET /       750ms       250ms       750ms       500ms",
                "name=nil             -       1.00s       2.00s       1.50s",
                "{}                   -           -           -           -",
            ]
        );
        assert_eq!(printed(series, 1)[2], "showing 1 of 3 series");
        assert_eq!(printed("[]", 1), ["no series: no span matches"]);
    }
}
