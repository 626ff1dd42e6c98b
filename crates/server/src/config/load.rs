use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde_norway::{Mapping, Value};

use super::schema::{key_paths, properties, schema};
use super::{Config, check, show};

/// Where values may come from, weakest first.
#[derive(Clone, Debug, Default)]
pub struct Layers {
    pub file: Option<PathBuf>,
    /// All environment variables; those that do not begin with `TRACEHOUSE_` are ignored.
    pub environment: Vec<(String, String)>,
    /// Key path, name of the flag, value.
    pub flags: Vec<(&'static str, &'static str, String)>,
}

/// An effective configuration and where it came from.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub config: Config,
    /// For each key that was set, by its path, what set it.
    pub sources: BTreeMap<String, Source>,
    /// What a person should know, though it is no error.
    pub warnings: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    File(PathBuf),
    Environment(String),
    Flag(&'static str),
}

impl fmt::Display for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::File(path) => write!(formatter, "{}", path.display()),
            Source::Environment(variable) => write!(formatter, "environment variable {variable}"),
            Source::Flag(flag) => write!(formatter, "flag {flag}"),
        }
    }
}

/// Why there is no configuration. Each says what to change.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{path}: cannot be read")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{path}: not YAML")]
    Parse { path: PathBuf, source: serde_norway::Error },
    #[error("{place}: unknown key {key}{}", did_you_mean(nearest.as_deref()))]
    UnknownKey { place: String, key: String, nearest: Option<String> },
    #[error("{source_of}: {key}: {reason}")]
    Value { source_of: Source, key: String, reason: String },
    #[error("{0}")]
    Together(String),
}

fn did_you_mean(nearest: Option<&str>) -> String {
    nearest.map(|key| format!("; did you mean {key}?")).unwrap_or_default()
}

/// The prefix of environment variables that set keys; levels are joined with `__`.
const PREFIX: &str = "TRACEHOUSE_";
/// Variables with the prefix that are read elsewhere.
const OTHER_VARIABLES: [&str; 3] = ["TRACEHOUSE_CONFIG", "TRACEHOUSE_URL", "TRACEHOUSE_CA_FILE"];

/// Reads the layers and checks every value.
pub fn load(layers: &Layers) -> Result<Loaded, ConfigError> {
    let schema = schema();
    let mut found = Found { known: key_paths(&schema), values: Vec::new() };
    let mut warnings = Vec::new();
    if let Some(path) = &layers.file {
        let source = Source::File(path.clone());
        found.walk(&source, &read(path)?, &schema, "")?;
    }
    let mut environment = layers.environment.clone();
    environment.sort();
    for (variable, value) in &environment {
        found.take_variable(variable, value, &mut warnings)?;
    }
    for (key, flag, value) in &layers.flags {
        found.values.push(((*key).to_owned(), Source::Flag(flag), Value::String(value.clone())));
    }
    found.into_loaded(warnings)
}

fn read(path: &Path) -> Result<Value, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.into(), source })?;
    serde_norway::from_str(&text).map_err(|source| ConfigError::Parse { path: path.into(), source })
}

/// The values found so far, weakest first.
struct Found {
    known: Vec<String>,
    values: Vec<(String, Source, Value)>,
}

impl Found {
    /// Collects the values of a file, with the schema beside it, and stops at the first key the schema lacks.
    fn walk(
        &mut self,
        source: &Source,
        value: &Value,
        schema: &serde_json::Value,
        prefix: &str,
    ) -> Result<(), ConfigError> {
        let Some(properties) = properties(schema) else {
            self.values.push((prefix.to_owned(), source.clone(), value.clone()));
            return Ok(());
        };
        let section = match value {
            // A section whose keys are all commented out.
            Value::Null => return Ok(()),
            Value::Mapping(section) => section,
            _ => {
                let keys: Vec<&str> = properties.keys().map(String::as_str).collect();
                return Err(ConfigError::Value {
                    source_of: source.clone(),
                    key: if prefix.is_empty() { "the file".to_owned() } else { prefix.to_owned() },
                    reason: format!("expected a section with keys such as {}", keys.join(", ")),
                });
            }
        };
        for (key, inner) in section {
            let key = key.as_str().map_or_else(|| show::scalar(key), str::to_owned);
            let join = |key: &str| if prefix.is_empty() { key.to_owned() } else { format!("{prefix}.{key}") };
            let path = join(&key);
            match properties.get(&key) {
                Some(inner_schema) => self.walk(source, inner, inner_schema, &path)?,
                None => {
                    let siblings = properties.keys().map(|sibling| join(sibling));
                    let candidates: Vec<String> = siblings.chain(self.known.iter().cloned()).collect();
                    let nearest = nearest(&path, &candidates);
                    return Err(ConfigError::UnknownKey { place: source.to_string(), key: path, nearest });
                }
            }
        }
        Ok(())
    }

    /// Takes a variable if it sets a key. One that nearly names a key is an error; any other is only warned of, since
    /// the prefix is not ours alone (Kubernetes sets `TRACEHOUSE_SERVICE_HOST` beside a service called `tracehouse`).
    fn take_variable(&mut self, variable: &str, value: &str, warnings: &mut Vec<String>) -> Result<(), ConfigError> {
        let Some(name) = variable.strip_prefix(PREFIX) else {
            return Ok(());
        };
        if OTHER_VARIABLES.contains(&variable) {
            return Ok(());
        }
        let key = name.to_lowercase().replace("__", ".");
        let source = Source::Environment(variable.to_owned());
        if self.known.contains(&key) {
            let parsed = serde_norway::from_str(value).unwrap_or_else(|_| Value::String(value.to_owned()));
            self.values.push((key, source, parsed));
            return Ok(());
        }
        let nearest = nearest(&key, &self.known);
        if nearest.is_none() {
            warnings.push(format!("{variable} sets no key of the configuration and is ignored"));
            return Ok(());
        }
        let nearest = nearest.map(|key| format!("{PREFIX}{}", key.to_uppercase().replace('.', "__")));
        Err(ConfigError::UnknownKey { place: "the environment".to_owned(), key: variable.to_owned(), nearest })
    }

    fn into_loaded(self, warnings: Vec<String>) -> Result<Loaded, ConfigError> {
        let mut merged = Value::Mapping(Mapping::new());
        let mut sources = BTreeMap::new();
        for (path, source, value) in self.values {
            // Every key is optional, so a value can be checked alone, and an error belongs to its key.
            let mut alone = Value::Mapping(Mapping::new());
            insert(&mut alone, &path, value.clone());
            if let Err(error) = serde_norway::from_value::<Config>(alone) {
                return Err(ConfigError::Value { source_of: source, key: path, reason: error.to_string() });
            }
            insert(&mut merged, &path, value);
            sources.insert(path, source);
        }
        let config: Config =
            serde_norway::from_value(merged).map_err(|error| ConfigError::Together(error.to_string()))?;
        check::check(&config).map_err(ConfigError::Together)?;
        Ok(Loaded { config, sources, warnings })
    }
}

fn insert(root: &mut Value, path: &str, value: Value) {
    let mut at = root;
    for key in path.split('.') {
        if !at.is_mapping() {
            *at = Value::Mapping(Mapping::new());
        }
        let mapping = at.as_mapping_mut().expect("it was made a mapping just now");
        at = mapping.entry(Value::String(key.to_owned())).or_insert(Value::Null);
    }
    *at = value;
}

/// The key or section that was most likely meant: by its whole path, or by its last part if the section was left out or is
/// another one.
fn nearest(path: &str, known: &[String]) -> Option<String> {
    const SIMILARITY_MIN: f64 = 0.7;
    let last = |path: &str| path.rsplit('.').next().unwrap_or_default().to_owned();
    let likeness = |candidate: &String| {
        let whole = strsim::normalized_damerau_levenshtein(path, candidate);
        let parts = 0.95 * strsim::normalized_damerau_levenshtein(&last(path), &last(candidate));
        whole.max(parts)
    };
    known
        .iter()
        .map(|candidate| (likeness(candidate), candidate))
        .filter(|(likeness, _)| *likeness >= SIMILARITY_MIN)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate.clone())
}
