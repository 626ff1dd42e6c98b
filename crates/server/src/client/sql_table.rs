use std::io::{self, Write};

use comfy_table::CellAlignment;
use serde::Deserialize;
use serde_json::Value;
use tracehouse_model::double_text;

use super::columns;
use super::text::{DIM, Style};
use crate::plain::one_line;

/// What the native API answers to a SQL statement.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Answer {
    columns: Vec<Column>,
    rows: Vec<Vec<Value>>,
    #[serde(default)]
    pub(super) partial_reason: Option<String>,
}

#[derive(Deserialize)]
struct Column {
    name: String,
}

/// What stands for null in a table: a text may be empty.
const NULL: &str = "null";

/// Prints aligned columns, numbers to the right. Texts may have several lines, as plans do.
pub(super) fn print(out: &mut impl Write, answer: &Answer, style: &Style) -> io::Result<()> {
    const GAP: u16 = 2;
    let mut table = columns::under(answer.columns.iter().map(|column| printable(&column.name)));
    table.add_rows(answer.rows.iter().map(|row| row.iter().map(|value| printable(&text(value, NULL)))));
    for (at, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, GAP));
        if is_numeric(answer, at) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    columns::print(out, &table, style)?;
    let count = answer.rows.len();
    writeln!(out, "{}", style.paint(DIM, format!("{count} row{}", if count == 1 { "" } else { "s" })))
}

/// Whether a column has numbers and nothing else.
fn is_numeric(answer: &Answer, at: usize) -> bool {
    let mut values = answer.rows.iter().filter_map(|row| row.get(at)).filter(|value| !value.is_null()).peekable();
    values.peek().is_some() && values.all(Value::is_number)
}

/// Prints as RFC 4180 has it, lines ended by a line feed.
pub(super) fn print_csv(out: &mut impl Write, answer: &Answer) -> io::Result<()> {
    let mut line = |cells: &mut dyn Iterator<Item = String>| {
        let fields: Vec<String> = cells.map(|cell| csv_field(&cell)).collect();
        writeln!(out, "{}", fields.join(","))
    };
    line(&mut answer.columns.iter().map(|column| column.name.clone()))?;
    answer.rows.iter().try_for_each(|row| line(&mut row.iter().map(|value| text(value, ""))))
}

fn csv_field(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}

fn text(value: &Value, null: &str) -> String {
    match value {
        Value::Null => null.to_owned(),
        Value::String(text) => text.clone(),
        // What is not whole as every text form has it.
        Value::Number(number) if number.is_f64() => number.as_f64().map_or_else(|| number.to_string(), double_text),
        other => other.to_string(),
    }
}

fn printable(text: &str) -> String {
    text.lines().map(one_line).collect::<Vec<String>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &str = r#"{"columns":[{"name":"service","type":"text"},{"name":"spans","type":"bigint"}],
        "rows":[["cart",12],["a,\"b\"\n",3],[null,null]],"complete":true,"partialReason":null,"elapsedNanos":1}"#;

    fn answer() -> Answer {
        serde_json::from_str(ANSWER).expect("the test's answer is that of a statement")
    }

    #[test]
    fn tables_are_aligned() {
        let mut out = Vec::new();
        print(&mut out, &answer(), &Style { colours: false, width: 80 }).expect("writing to memory");
        let expected = "service  spans\ncart        12\na,\"b\"        3\nnull      null\n3 rows\n";
        assert_eq!(String::from_utf8(out).expect("text"), expected);
    }

    #[test]
    fn lines_and_wide_characters_keep_columns_apart() {
        let answer =
            r#"{"columns":[{"name":"plan\u001b[2J"},{"name":"at"}],"rows":[["購物車",1],["Sort\n  Scan\t",22]]}"#;
        let answer = serde_json::from_str(answer).expect("the test's answer is that of a statement");
        let mut out = Vec::new();
        print(&mut out, &answer, &Style { colours: true, width: 80 }).expect("writing to memory");
        let expected = "\x1b[1mplan [2J  at\x1b[0m\n購物車     1\nSort      22\n  Scan\n\x1b[2m2 rows\x1b[0m\n";
        assert_eq!(String::from_utf8(out).expect("text"), expected);
    }

    #[test]
    fn numbers_are_those_of_other_answers() {
        let table = [
            ("12", "12"),
            ("1.5", "1.5"),
            ("2.0", "2"),
            ("1e300", "1e+300"),
            ("-1e-7", "-1e-7"),
            ("1e20", "100000000000000000000"),
        ];
        for (json, expected) in table {
            assert_eq!(text(&serde_json::from_str(json).expect("a number"), NULL), expected);
        }
    }

    #[test]
    fn csv_is_quoted() {
        let mut out = Vec::new();
        print_csv(&mut out, &answer()).expect("writing to memory");
        assert_eq!(String::from_utf8(out).expect("text"), "service,spans\ncart,12\n\"a,\"\"b\"\"\n\",3\n,\n");
    }
}
