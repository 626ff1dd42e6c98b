//! What an unfinished query says already.

use crate::compile;
use crate::field::{FieldExpr, LogicalOp};
use crate::query::{MetricsExpr, Pipeline, QueryExpr, SpansetExpr, Stage};

/// The conditions that the spans of a query must satisfy, all of them, as far as a query that somebody is still typing says
/// so: those of its one spanset that can be read. Empty if nothing is certain, as with several spansets or with `||`.
///
/// An attribute by itself, which is a condition as well, is left out: it is more likely to be the begin of one.
pub fn conditions_of_unfinished(source: &str) -> Vec<FieldExpr> {
    let conditions = match compile(source) {
        Ok(query) => match condition_of(&query.expr) {
            Some(FieldExpr::Logical { op: LogicalOp::And, terms, .. }) => terms,
            condition => condition.into_iter().collect(),
        },
        Err(_) => pieces(source).into_iter().flatten().filter_map(condition_of_piece).collect(),
    };
    conditions.into_iter().filter(|condition| !matches!(condition, FieldExpr::Attribute { .. })).collect()
}

/// The condition of the first stage, which narrows whatever follows.
fn condition_of(expr: &QueryExpr) -> Option<FieldExpr> {
    let pipeline = match expr {
        QueryExpr::Spans(pipeline) => pipeline,
        QueryExpr::Metrics(metrics) => selected(metrics)?,
    };
    match pipeline.stages.first()? {
        Stage::Spanset(SpansetExpr::Filter { condition, .. }) => condition.clone(),
        _ => None,
    }
}

fn selected(metrics: &MetricsExpr) -> Option<&Pipeline> {
    match metrics {
        MetricsExpr::Series { spans, .. } => Some(spans),
        MetricsExpr::Then { input, .. } => selected(input),
        MetricsExpr::Arithmetic { .. } | MetricsExpr::Literal { .. } => None,
    }
}

fn condition_of_piece(piece: &str) -> Option<FieldExpr> {
    condition_of(&compile(&format!("{{ {piece} }}")).ok()?.expr)
}

/// The parts between `&&` inside the braces. `None` if there is not exactly one opening brace, or a `||` outside of
/// parentheses.
fn pieces(source: &str) -> Option<Vec<&str>> {
    let (mut begin, mut depth, mut pieces) = (None, 0_usize, Vec::new());
    let mut letters = source.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' | '`' => skip_text(&mut letters, letter),
            '{' if begin.is_some() => return None,
            '{' => begin = Some(at + 1),
            '}' => {
                pieces.push(source.get(begin.take()?..at)?);
                // Another spanset is none of one.
                return (!source.get(at + 1..)?.contains('{')).then_some(pieces);
            }
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            '|' if depth == 0 && source[at + 1..].starts_with('|') => return None,
            '&' if depth == 0 && source[at + 1..].starts_with('&') => {
                pieces.push(source.get(begin?..at)?);
                letters.next();
                begin = Some(at + 2);
            }
            _ => {}
        }
    }
    pieces.push(&source[begin?..]);
    Some(pieces)
}

/// Moves behind the end of a text, or to the end of all if it has none.
fn skip_text(letters: &mut std::str::CharIndices<'_>, quote: char) {
    while let Some((_, letter)) = letters.next() {
        if letter == quote {
            return;
        }
        if letter == '\\' && quote == '"' {
            letters.next();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_certain() {
        let table: [(&str, &[&str]); 22] = [
            ("", &[]),
            ("{", &[]),
            ("{ }", &[]),
            ("{ span.a", &[]),
            ("{ span.a }", &[]),
            ("{ span.a = }", &[]),
            (r#"{ span.a = "x" }"#, &[r#"span.a = "x""#]),
            (r#"{ span.a = "x" && span.b }"#, &[r#"span.a = "x""#]),
            (r#"{ span.a = "x" && span.b = }"#, &[r#"span.a = "x""#]),
            (r#"{ span.a = "x" && span.b = "unfin"#, &[r#"span.a = "x""#]),
            (r#"{ span.b = && span.a = "x" "#, &[r#"span.a = "x""#]),
            (r#"{ .a = "&& } {" && .b > 2 && "#, &[r#".a = "&& } {""#, ".b > 2"]),
            (r#"{ .a = "\"&&" && .b > "#, &[r#".a = "\"&&""#]),
            ("{ .a = `\\` && .b > ", &[r#".a = "\\""#]),
            ("{ (.a = 1 || .b = 2) && .c = ", &[".a = 1 || .b = 2"]),
            ("{ .a = 1 || .b = ", &[]),
            ("{ .a = 1 || .b = 2 }", &[".a = 1 || .b = 2"]),
            ("{ .a = 1 } >> { .b = ", &[]),
            ("{ .a = 1 } >> { .b = 2 }", &[]),
            ("{ .a = 1 && status = error } | rate() by (", &[".a = 1", "span:status = error"]),
            ("{ .a = 1 } | count() > 2 | rate() by (name)", &[".a = 1"]),
            ("} && {", &[]),
        ];
        for (source, expected) in table {
            let found: Vec<String> = conditions_of_unfinished(source).iter().map(FieldExpr::to_string).collect();
            assert_eq!(found, expected, "{source}");
        }
    }

    #[test]
    fn every_begin_of_a_query_is_read() {
        let query = r#"{ resource.service.name = "cärt" && (.a = `x` || .b =~ "y\"z") && duration > 2ms } | rate()"#;
        for (at, _) in query.char_indices() {
            conditions_of_unfinished(&query[..at]);
        }
        assert_eq!(conditions_of_unfinished(query).len(), 3);
    }
}
