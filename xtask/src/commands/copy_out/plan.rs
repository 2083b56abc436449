//! The parts of a pattern's copy, read from the manifest and from the sources, so that a new pattern needs no line
//! here.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use super::{
    manifest::{self, Dependency, Manifest},
    sources::{self, Source},
};
use crate::{Result, error};

/// The crate that is copied from.
pub(super) struct Library {
    folder: PathBuf,
    member: Manifest,
    workspace: Manifest,
    features: BTreeMap<String, Vec<String>>,
    /// The folders of `src`, by name.
    folders: BTreeMap<String, Vec<Source>>,
}

/// The parts of a copy of one pattern.
pub(super) struct Plan<'a> {
    pub(super) pattern: String,
    /// The pattern's folder, and those that it has edges to.
    pub(super) folders: BTreeMap<String, &'a [Source]>,
    pub(super) dependencies: BTreeMap<String, Dependency>,
    /// The crates that only doc tests and unit tests use.
    pub(super) dev_dependencies: BTreeMap<String, Dependency>,
    /// The features of the copy: those that the sources name in `cfg(feature = "…")`. The pattern's own needs are no
    /// feature.
    pub(super) options: BTreeMap<String, Vec<String>>,
    /// The features that the pattern's feature names itself.
    pub(super) default: BTreeSet<String>,
    /// The folders that the pattern uses without a feature that names them.
    pub(super) always: BTreeSet<String>,
}

impl Library {
    pub(super) fn read(root: &Path) -> Result<Self> {
        let folder = root.join("shared/holdfast");
        let member = manifest::parse(&sources::read(&folder.join("Cargo.toml"))?)?;
        let workspace = manifest::parse(&sources::read(&root.join("Cargo.toml"))?)?;
        let folders = sources::folders(&folder.join("src"))?;
        Ok(Self {
            features: manifest::features(&member),
            folder,
            member,
            workspace,
            folders,
        })
    }

    /// Returns every pattern, which is a folder of `src`. One without a feature of its name is always compiled.
    pub(super) fn patterns(&self) -> Vec<String> {
        let has_feature = |name: &&String| self.features.contains_key(*name);
        let named = self.folders.keys().filter(has_feature);
        let always = self.folders.keys().filter(|name| !has_feature(name));
        // A new folder that is not declared yet is left out.
        let lib = std::fs::read_to_string(self.folder.join("src/lib.rs")).unwrap_or_default();
        let declared = always.filter(|name| lib.contains(&format!("pub mod {name};")));
        named.chain(declared).cloned().collect()
    }

    /// Returns a setting of the package, such as `edition`: its own, or the workspace's.
    pub(super) fn package(&self, field: &str) -> Result<String> {
        let own = self
            .member
            .get("package")
            .and_then(|table| table.get(field));
        let workspace = self.workspace.get("workspace.package");
        let value = match own {
            Some(manifest::Value::Table(_)) => workspace.and_then(|table| table.get(field)),
            own => own,
        };
        let value = value.ok_or_else(|| error(format!("holdfast has no {field}")))?;
        Ok(value.to_string())
    }

    /// Returns the plans of copies of these patterns, or of every pattern if none is named.
    pub(super) fn plans(&self, named: &[String]) -> Result<Vec<Plan<'_>>> {
        let every = if named.is_empty() {
            self.patterns()
        } else {
            Vec::new()
        };
        named
            .iter()
            .chain(&every)
            .map(|pattern| self.plan(pattern))
            .collect()
    }

    /// Returns the plan of a copy of `pattern`.
    pub(super) fn plan(&self, pattern: &str) -> Result<Plan<'_>> {
        let mut plan = Plan {
            pattern: pattern.to_owned(),
            folders: BTreeMap::new(),
            dependencies: BTreeMap::new(),
            dev_dependencies: BTreeMap::new(),
            options: BTreeMap::new(),
            default: BTreeSet::new(),
            always: BTreeSet::new(),
        };
        let mut enabled = Vec::new();
        let mut waiting = vec![pattern.to_owned()];
        while let Some(name) = waiting.pop() {
            if plan.folders.contains_key(&name) {
                continue;
            }
            let sources = self.folders.get(&name).ok_or_else(|| {
                error(format!(
                    "there is no pattern {name:?}; there are: {}",
                    self.patterns().join(", ")
                ))
            })?;
            plan.folders.insert(name.clone(), sources);
            for part in self.features.get(&name).into_iter().flatten() {
                if self.folders.contains_key(part) {
                    waiting.push(part.clone());
                } else if self.features.contains_key(part) {
                    plan.default.insert(part.clone());
                } else {
                    enabled.push(part.clone());
                }
            }
            let used = |other: &&String| {
                !self.features.contains_key(*other) && sources::use_folder(sources, other)
            };
            let used: Vec<String> = self.folders.keys().filter(used).cloned().collect();
            plan.always.extend(used.iter().cloned());
            waiting.extend(used);
        }
        self.depend(&mut plan.dependencies, &enabled, false)?;
        self.add_options(&mut plan)?;
        self.add_dev_dependencies(&mut plan)?;
        Ok(plan)
    }

    /// Adds `dep:tokio` and `tokio/rt` to the entries of `[dependencies]`.
    fn depend(
        &self,
        dependencies: &mut BTreeMap<String, Dependency>,
        parts: &[String],
        optional: bool,
    ) -> Result {
        for name in parts.iter().filter_map(|part| part.strip_prefix("dep:")) {
            if dependencies.contains_key(name) {
                continue;
            }
            let found = Dependency::find(&self.member, "dependencies", &self.workspace, name)?;
            let mut dependency =
                found.ok_or_else(|| error(format!("holdfast does not depend on {name}")))?;
            if dependency.is_ours() {
                return Err(error(format!(
                    "{name} is a crate of this workspace: it cannot be copied along"
                )));
            }
            dependency.optional = optional;
            dependencies.insert(name.to_owned(), dependency);
        }
        if optional {
            return Ok(()); // an option's features stay in the option
        }
        for (name, feature) in parts.iter().filter_map(|part| part.split_once('/')) {
            if let Some(dependency) = dependencies.get_mut(name) {
                dependency.features.insert(feature.to_owned());
            }
        }
        Ok(())
    }

    fn add_options(&self, plan: &mut Plan<'_>) -> Result {
        let asked = plan
            .sources()
            .flat_map(Source::features)
            .collect::<BTreeSet<_>>();
        let mut waiting: Vec<String> = plan.default.iter().cloned().chain(asked).collect();
        while let Some(option) = waiting.pop() {
            if plan.options.contains_key(&option) {
                continue;
            }
            let parts = self.features.get(&option).ok_or_else(|| {
                error(format!(
                    "the sources ask about the feature {option:?}, which does not exist"
                ))
            })?;
            let parts: Vec<String> = parts
                .iter()
                .filter(|part| !plan.folders.contains_key(*part))
                .cloned()
                .collect();
            self.depend(&mut plan.dependencies, &parts, true)?;
            waiting.extend(
                parts
                    .iter()
                    .filter(|part| self.features.contains_key(*part))
                    .cloned(),
            );
            plan.options.insert(option, parts);
        }
        // `dep:x` is for optional dependencies; one that the pattern needs anyway is no part of an option.
        for parts in plan.options.values_mut() {
            parts.retain(|part| {
                let dependency = part
                    .strip_prefix("dep:")
                    .and_then(|name| plan.dependencies.get(name));
                dependency.is_none_or(|dependency| dependency.optional)
            });
        }
        Ok(())
    }

    fn add_dev_dependencies(&self, plan: &mut Plan<'_>) -> Result {
        for name in self
            .member
            .get("dev-dependencies")
            .into_iter()
            .flat_map(BTreeMap::keys)
        {
            if !plan.sources().any(|source| source.names_crate(name)) {
                continue;
            }
            let found = Dependency::find(&self.member, "dev-dependencies", &self.workspace, name)?;
            let Some(dependency) = found else { continue };
            if plan.dependencies.get(name) == Some(&dependency) {
                continue;
            }
            if dependency.is_ours() {
                return Err(error(format!(
                    "the unit tests of {} need {name}, a crate of this workspace: move them to tests/",
                    plan.pattern
                )));
            }
            plan.dev_dependencies.insert(name.clone(), dependency);
        }
        Ok(())
    }
}

impl Plan<'_> {
    pub(super) fn sources(&self) -> impl Iterator<Item = &Source> {
        self.folders.values().copied().flatten()
    }
}
