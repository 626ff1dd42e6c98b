use tracehouse_traceql::{MetricsExpr, QueryExpr, Static};

use crate::steps::EXEMPLARS_MAX;

const EXEMPLARS_DEFAULT: usize = 100;
/// How many series a grouped query is taken to have when exemplars are looked for, as that is only known afterwards.
/// Each exemplar costs the reading of a row, so not all that are wanted can be looked for in every series.
const SERIES_EXPECTED: usize = 20;
const EXEMPLARS_OF_SERIES_MIN: usize = 5;

/// What a query says of how its series are shown. One that can't be read says nothing, and is refused by the engine.
pub(super) struct Reading {
    /// What a series without labels is called: `rate`, or `(rate / count_over_time)`.
    pub(super) name: String,
    /// Exemplars wanted of all series together, which share them evenly.
    pub(super) exemplars: usize,
    /// Whether there may be many series.
    grouped: bool,
    /// Whether the series measure a field, so that the value of an exemplar's own span is on the same scale.
    pub(super) measures: bool,
}

impl Reading {
    /// `exemplars` as the request has it; 0 is as good as none.
    pub(super) fn of(query: &str, exemplars: usize) -> Self {
        let query = tracehouse_traceql::parse(query).ok();
        let hint = query.as_ref().and_then(|query| query.hint("exemplars"));
        let exemplars = exemplars_wanted(hint, exemplars);
        match query.as_ref().map(|query| &query.expr) {
            Some(QueryExpr::Metrics(expr)) => Self {
                name: name_of(expr).unwrap_or_default(),
                exemplars,
                grouped: is_grouped(expr),
                measures: measures(expr),
            },
            _ => Self { name: String::new(), exemplars, grouped: false, measures: false },
        }
    }

    /// How many exemplars to look for in each series.
    pub(super) fn exemplars_of_series(&self) -> usize {
        let share = self.exemplars.div_ceil(SERIES_EXPECTED).max(EXEMPLARS_OF_SERIES_MIN);
        if self.grouped { share.min(self.exemplars) } else { self.exemplars }
    }
}

/// As in Tempo, what the query says counts more than the parameter, and without either there are some.
fn exemplars_wanted(hint: Option<&Static>, parameter: usize) -> usize {
    let wanted = match hint {
        Some(Static::Int(count)) => usize::try_from(*count).unwrap_or(0),
        Some(Static::Bool(false)) => 0,
        _ if parameter == 0 => EXEMPLARS_DEFAULT,
        _ => parameter,
    };
    wanted.min(EXEMPLARS_MAX)
}

/// A number that series are calculated with doesn't change their name.
fn name_of(expr: &MetricsExpr) -> Option<String> {
    match expr {
        MetricsExpr::Series { function, .. } => Some(function.name().to_owned()),
        MetricsExpr::Then { input, .. } => name_of(input),
        MetricsExpr::Arithmetic { op, left, right, .. } => match (name_of(left), name_of(right)) {
            (Some(left), Some(right)) => Some(format!("({left} {} {right})", op.symbol())),
            (left, right) => left.or(right),
        },
        MetricsExpr::Literal { .. } => None,
    }
}

fn is_grouped(expr: &MetricsExpr) -> bool {
    match expr {
        MetricsExpr::Series { by, .. } => !by.is_empty(),
        MetricsExpr::Then { input, .. } => is_grouped(input),
        MetricsExpr::Arithmetic { left, right, .. } => is_grouped(left) || is_grouped(right),
        MetricsExpr::Literal { .. } => false,
    }
}

fn measures(expr: &MetricsExpr) -> bool {
    match expr {
        MetricsExpr::Series { function, .. } => function.field().is_some(),
        MetricsExpr::Then { input, .. } => measures(input),
        MetricsExpr::Arithmetic { .. } | MetricsExpr::Literal { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_say_how_their_series_are_shown() {
        let table = [
            ("{ } | rate()", "rate", false),
            ("{ } | avg_over_time(duration)", "avg_over_time", true),
            ("{ } | avg_over_time(duration) | topk(3)", "avg_over_time", true),
            ("({ } | rate()) * 60", "rate", false),
            ("60 * ({ } | rate())", "rate", false),
            ("({ } | max_over_time(duration)) / 1000", "max_over_time", false),
            ("({ } | rate()) / ({ } | count_over_time())", "(rate / count_over_time)", false),
            ("(({ } | rate()) * 2) - ({ } | rate())", "(rate - rate)", false),
            ("{ }", "", false),
            ("{", "", false),
        ];
        for (query, name, measures) in table {
            let reading = Reading::of(query, 0);
            assert_eq!((reading.name.as_str(), reading.measures), (name, measures), "{query}");
        }
    }

    #[test]
    fn hints_count_more_than_the_parameter() {
        let table = [
            ("", 0, 100),
            ("", 7, 7),
            ("", 2000, 1000),
            (" with (exemplars=true)", 0, 100),
            (" with (exemplars=true)", 7, 7),
            (" with (exemplars=false)", 7, 0),
            (" with (exemplars=0)", 7, 0),
            (" with (exemplars=12)", 7, 12),
            (" with (exemplars=5000)", 7, 1000),
            (" with (most_recent=true)", 7, 7),
        ];
        for (hint, parameter, expected) in table {
            let query = format!("{{ }} | rate(){hint}");
            assert_eq!(Reading::of(&query, parameter).exemplars, expected, "{hint} {parameter}");
        }
    }

    #[test]
    fn many_series_share_the_exemplars() {
        let grouped = "({ } | rate() by (name) | topk(3)) / ({ } | rate() by (name))";
        let table =
            [("{ } | rate()", 1000, 1000), (grouped, 100, 5), (grouped, 1000, 50), (grouped, 20, 5), (grouped, 3, 3)];
        for (query, wanted, of_series) in table {
            assert_eq!(Reading::of(query, wanted).exemplars_of_series(), of_series, "{query} {wanted}");
        }
    }
}
