//! The crate that a pattern is copied into.

use std::{fmt::Write as _, fs, path::Path};

use super::{
    plan::{Library, Plan},
    sources::Source,
};
use crate::{Context, Result, workspace};

/// Writes the crate, in place of an earlier one.
pub(super) fn write(library: &Library, plan: &Plan<'_>, name: &str, folder: &Path) -> Result {
    if folder.exists() {
        fs::remove_dir_all(folder).context(folder.display())?;
    }
    for source in plan.sources() {
        put(&folder.join("src").join(&source.path), &source.within(name))?;
    }
    // A dependency that nothing uses is one that the feature should not declare. Tests have theirs for themselves.
    let mut lib = format!(
        "//! The pattern `{}`, copied from Holdfast.\n\n\
         #![cfg_attr(not(test), deny(unused_crate_dependencies))]\n\n",
        plan.pattern
    );
    for module in plan.folders.keys() {
        let _ = writeln!(lib, "pub mod {module};");
    }
    put(&folder.join("src/lib.rs"), &lib)?;
    put(
        &folder.join("Cargo.toml"),
        &cargo_toml(library, plan, name)?,
    )?;
    if let Some(build) = build_script(plan) {
        put(&folder.join("build.rs"), &build)?;
    }
    // The versions that the originals are tested with; cargo removes those that the copy does not use.
    let root = workspace::root();
    for file in ["Cargo.lock", "LICENSE-APACHE", "LICENSE-MIT"] {
        fs::copy(root.join(file), folder.join(file)).context(file)?;
    }
    Ok(())
}

/// Returns a build script that rebuilds the crate for a new migration; `None` if the copy has no migrations.
fn build_script(plan: &Plan<'_>) -> Option<String> {
    let has_migrations = |sources: &[Source]| {
        let mut folders = sources.iter().filter_map(|source| source.path.parent());
        folders.any(|folder| folder.ends_with("migrations"))
    };
    let mut lines = String::new();
    for (name, sources) in &plan.folders {
        if has_migrations(sources) {
            let line = format!("    println!(\"cargo:rerun-if-changed=src/{name}/migrations\");\n");
            lines.push_str(&line);
        }
    }
    let doc = "//! A new migration file alone must rebuild the crate that embeds it.";
    (!lines.is_empty()).then(|| format!("{doc}\n\nfn main() {{\n{lines}}}\n"))
}

fn put(path: &Path, text: &str) -> Result {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).context(parent.display())?;
    }
    fs::write(path, text).context(path.display())
}

fn cargo_toml(library: &Library, plan: &Plan<'_>, name: &str) -> Result<String> {
    let mut text = format!("[package]\nname = {name:?}\nversion = \"0.1.0\"\npublish = false\n");
    for field in ["edition", "rust-version", "license"] {
        let _ = writeln!(text, "{field} = {}", library.package(field)?);
    }
    // The copy may lie below another crate's folder, as it does here.
    text.push_str("\n[workspace]\n");
    if !plan.options.is_empty() {
        text.push_str("\n[features]\n");
        if !plan.default.is_empty() {
            let _ = writeln!(text, "default = {:?}", Vec::from_iter(&plan.default));
        }
        for (option, parts) in &plan.options {
            let _ = writeln!(text, "{option} = {parts:?}");
        }
    }
    for (table, dependencies) in [
        ("dependencies", &plan.dependencies),
        ("dev-dependencies", &plan.dev_dependencies),
    ] {
        if !dependencies.is_empty() {
            let _ = writeln!(text, "\n[{table}]");
        }
        for (name, dependency) in dependencies {
            let _ = writeln!(text, "{name} = {dependency}");
        }
    }
    Ok(text)
}
