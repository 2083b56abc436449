//! Parses Cargo manifests: the part of TOML that those of this workspace use.
//!
//! Not a crate, as xtask must compile quickly, and its input is in this repository. Syntax that it does not know is an
//! error, never a guess.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use crate::{Result, error};

/// A value of TOML, of the kinds that our manifests use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Text(String),
    /// `true`, `false` or a number.
    Word(String),
    List(Vec<Value>),
    Table(BTreeMap<String, Value>),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let joined = |parts: Vec<String>| parts.join(", ");
        match self {
            Self::Text(text) => write!(f, "{text:?}"),
            Self::Word(word) => f.write_str(word),
            Self::List(values) => {
                let values = values.iter().map(ToString::to_string).collect();
                write!(f, "[{}]", joined(values))
            }
            Self::Table(fields) => {
                let fields = fields
                    .iter()
                    .map(|(name, value)| format!("{name} = {value}"));
                write!(f, "{{ {} }}", joined(fields.collect()))
            }
        }
    }
}

impl Value {
    fn texts(&self) -> Vec<String> {
        match self {
            Self::List(values) => values.iter().flat_map(Self::texts).collect(),
            Self::Text(text) => vec![text.clone()],
            Self::Word(_) | Self::Table(_) => Vec::new(),
        }
    }
}

/// The tables of a manifest by the text between their brackets, each with its entries.
pub(super) type Manifest = BTreeMap<String, BTreeMap<String, Value>>;

/// Parses a manifest.
pub(super) fn parse(text: &str) -> Result<Manifest> {
    let mut manifest = Manifest::new();
    let mut table = String::new();
    let mut reader = Reader { rest: text };
    loop {
        reader.skip_blank();
        if reader.rest.is_empty() {
            return Ok(manifest);
        }
        if reader.take("[[") {
            // An element of an array of tables: no table that is looked up here is one.
            table = format!("[{}]", reader.until(']')?);
            reader.expect("]")?;
            continue;
        }
        if reader.take("[") {
            table = reader.until(']')?;
            manifest.entry(table.clone()).or_default();
            continue;
        }
        let (path, value) = reader.entry()?;
        insert(manifest.entry(table.clone()).or_default(), &path, value)?;
    }
}

/// Inserts a value at a dotted path: `a.b = 1` is `a = { b = 1 }`.
fn insert(entries: &mut BTreeMap<String, Value>, path: &[String], value: Value) -> Result {
    match path {
        [] => Err(error("an entry without a name")),
        [name] => {
            entries.insert(name.clone(), value);
            Ok(())
        }
        [name, below @ ..] => {
            let inner = entries
                .entry(name.clone())
                .or_insert_with(|| Value::Table(BTreeMap::new()));
            match inner {
                Value::Table(fields) => insert(fields, below, value),
                _ => Err(error(format!("{name} is a value, and a table too"))),
            }
        }
    }
}

struct Reader<'a> {
    rest: &'a str,
}

impl Reader<'_> {
    /// Skips white space, line ends and comments.
    fn skip_blank(&mut self) {
        loop {
            self.rest = self.rest.trim_start();
            if !self.rest.starts_with('#') {
                return;
            }
            self.rest = self.rest.split_once('\n').map_or("", |(_, rest)| rest);
        }
    }

    fn take(&mut self, token: &str) -> bool {
        let Some(rest) = self.rest.strip_prefix(token) else {
            return false;
        };
        self.rest = rest;
        true
    }

    fn expect(&mut self, token: &str) -> Result {
        self.skip_blank();
        if self.take(token) {
            return Ok(());
        }
        let line = self.rest.lines().next().unwrap_or_default();
        Err(error(format!("expected {token:?}, and found: {line}")))
    }

    fn until(&mut self, end: char) -> Result<String> {
        let (text, rest) = self
            .rest
            .split_once(end)
            .ok_or_else(|| error(format!("a {end:?} is missing")))?;
        self.rest = rest;
        Ok(text.to_owned())
    }

    fn word(&mut self) -> String {
        let end = self
            .rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_'))
            .unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word.to_owned()
    }

    fn entry(&mut self) -> Result<(Vec<String>, Value)> {
        let mut path = Vec::new();
        loop {
            self.skip_blank();
            let name = if self.take("\"") {
                self.until('"')?
            } else {
                self.word()
            };
            path.push(name);
            if !self.take(".") {
                break;
            }
        }
        self.expect("=")?;
        Ok((path, self.value()?))
    }

    fn value(&mut self) -> Result<Value> {
        self.skip_blank();
        if self.rest.starts_with("\"\"\"") {
            return Err(error("text of several lines is not understood here"));
        }
        if self.take("\"") {
            let text = self.until('"')?;
            if text.contains('\\') {
                return Err(error(format!("escapes are not understood here: {text:?}")));
            }
            return Ok(Value::Text(text));
        }
        if self.take("[") {
            let mut values = Vec::new();
            loop {
                self.skip_blank();
                if self.take("]") {
                    return Ok(Value::List(values));
                }
                values.push(self.value()?);
                self.skip_blank();
                if !self.take(",") {
                    self.expect("]")?;
                    return Ok(Value::List(values));
                }
            }
        }
        if self.take("{") {
            let mut fields = BTreeMap::new();
            loop {
                self.skip_blank();
                if self.take("}") {
                    return Ok(Value::Table(fields));
                }
                let (path, value) = self.entry()?;
                insert(&mut fields, &path, value)?;
                self.skip_blank();
                if !self.take(",") {
                    self.expect("}")?;
                    return Ok(Value::Table(fields));
                }
            }
        }
        let word = self.word();
        if word.is_empty() {
            let line = self.rest.lines().next().unwrap_or_default();
            return Err(error(format!("expected a value, and found: {line}")));
        }
        Ok(Value::Word(word))
    }
}

/// Returns the features, each with its parts as they are written: `dep:tokio`, `backoff`, `reqwest/blocking`.
pub(super) fn features(manifest: &Manifest) -> BTreeMap<String, Vec<String>> {
    let features = manifest.get("features").cloned().unwrap_or_default();
    let texts = |(name, value): (String, Value)| (name, value.texts());
    features.into_iter().map(texts).collect()
}

/// A dependency, as it would be written in a crate of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Dependency {
    pub(super) features: BTreeSet<String>,
    pub(super) optional: bool,
    /// Version, package, default-features.
    rest: BTreeMap<String, Value>,
}

impl Dependency {
    /// Returns the dependency under `name` in this table of a member, with the fields that it inherits from the
    /// workspace.
    pub(super) fn find(
        member: &Manifest,
        table: &str,
        workspace: &Manifest,
        name: &str,
    ) -> Result<Option<Self>> {
        let entry = |manifest: &Manifest, table: &str| {
            let value = manifest.get(table)?.get(name)?;
            Some(match value {
                Value::Table(fields) => fields.clone(),
                version => [("version".to_owned(), version.clone())].into(),
            })
        };
        let Some(mut own) = entry(member, table) else {
            return Ok(None);
        };
        own.remove("optional");
        let features = |fields: &mut BTreeMap<String, Value>| {
            fields
                .remove("features")
                .map_or_else(Vec::new, |value| value.texts())
        };
        let mut all = features(&mut own);
        let mut rest = own;
        if rest.remove("workspace").is_some() {
            let mut inherited = entry(workspace, "workspace.dependencies")
                .ok_or_else(|| error(format!("the workspace does not know {name}")))?;
            all.extend(features(&mut inherited));
            inherited.extend(rest);
            rest = inherited;
        }
        Ok(Some(Self {
            features: all.into_iter().collect(),
            optional: false,
            rest,
        }))
    }

    /// Returns true for a crate of this workspace, which cannot be copied along.
    pub(super) fn is_ours(&self) -> bool {
        self.rest.contains_key("path")
    }
}

impl fmt::Display for Dependency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut fields = self.rest.clone();
        if !self.features.is_empty() {
            let features = self.features.iter().cloned().map(Value::Text).collect();
            fields.insert("features".to_owned(), Value::List(features));
        }
        if self.optional {
            fields.insert("optional".to_owned(), Value::Word("true".to_owned()));
        }
        Value::Table(fields).fmt(f)
    }
}
