use std::fmt::Write;

use serde_norway::Value;

use super::{Config, Loaded};

/// The effective configuration as YAML; a value that is not the default is followed by what set it.
pub fn show(loaded: &Loaded) -> String {
    let effective = value_of(&loaded.config);
    let defaults = value_of(&Config::default());
    let mut text = String::new();
    write_section(&mut text, &effective, &defaults, "", loaded);
    text
}

fn value_of(config: &Config) -> Value {
    serde_norway::to_value(config).expect("the configuration is made of texts, numbers, lists and sections")
}

fn write_section(text: &mut String, section: &Value, defaults: &Value, prefix: &str, loaded: &Loaded) {
    let indent = "  ".repeat(if prefix.is_empty() { 0 } else { prefix.split('.').count() });
    for (key, value) in section.as_mapping().into_iter().flatten() {
        let key = scalar(key);
        let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        let default = defaults.get(key.as_str()).unwrap_or(&Value::Null);
        if value.is_mapping() {
            writeln!(text, "{indent}{key}:").expect(INFALLIBLE);
            write_section(text, value, default, &path, loaded);
            continue;
        }
        write!(text, "{indent}{key}: {}", scalar(value)).expect(INFALLIBLE);
        match loaded.sources.get(&path) {
            Some(source) if value != default => writeln!(text, "  # from {source}").expect(INFALLIBLE),
            _ => text.push('\n'),
        }
    }
}

const INFALLIBLE: &str = "writing to a String cannot fail";

/// A value on one line.
pub(super) fn scalar(value: &Value) -> String {
    match value {
        Value::Sequence(items) => format!("[{}]", items.iter().map(item).collect::<Vec<_>>().join(", ")),
        other => serde_norway::to_string(other).map(|text| text.trim_end().to_owned()).unwrap_or_default(),
    }
}

/// A value inside a list, where some characters need quotes that they do not need alone.
fn item(value: &Value) -> String {
    match value.as_str() {
        Some(text) if text.contains([',', '[', ']', '{', '}']) => format!("{text:?}"),
        _ => scalar(value),
    }
}
