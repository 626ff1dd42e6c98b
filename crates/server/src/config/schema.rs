use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::Config;

/// The JSON schema of the configuration file, without references, so that it can be walked along a value.
pub fn schema() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    settings.into_generator().into_root_schema_for::<Config>().to_value()
}

/// Every key with its full path, such as `store.retention`, in the order of the schema; sections are left out.
pub(super) fn key_paths(schema: &Value) -> Vec<String> {
    fn walk(schema: &Value, prefix: &str, paths: &mut Vec<String>) {
        let Some(properties) = properties(schema) else {
            paths.push(prefix.to_owned());
            return;
        };
        for (key, inner) in properties {
            let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
            walk(inner, &path, paths);
        }
    }
    let mut paths = Vec::new();
    walk(schema, "", &mut paths);
    paths
}

/// The keys of a section; `None` for a value.
pub(super) fn properties(schema: &Value) -> Option<&serde_json::Map<String, Value>> {
    schema.get("properties")?.as_object()
}
