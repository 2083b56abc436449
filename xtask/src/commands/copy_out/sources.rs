//! The files of a pattern, and the facts that can be read from them.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use crate::{Context, Result};

/// A file of a pattern.
#[derive(Clone, Debug)]
pub(super) struct Source {
    /// The path below `src`.
    pub(super) path: PathBuf,
    pub(super) text: String,
}

pub(super) fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).context(path.display())
}

/// Returns every folder of `src` that has a `mod.rs`, with all its files, including SQL.
pub(super) fn folders(src: &Path) -> Result<BTreeMap<String, Vec<Source>>> {
    let mut folders = BTreeMap::new();
    for entry in fs::read_dir(src).context(src.display())? {
        let entry = entry?;
        if !entry.path().join("mod.rs").exists() {
            continue;
        }
        let name = entry.file_name().to_string_lossy().into_owned();
        let mut sources = Vec::new();
        collect(src, Path::new(&name), &mut sources)?;
        sources.sort_by(|a, b| a.path.cmp(&b.path));
        folders.insert(name, sources);
    }
    Ok(folders)
}

fn collect(src: &Path, below: &Path, sources: &mut Vec<Source>) -> Result {
    let folder = src.join(below);
    for entry in fs::read_dir(&folder).context(folder.display())? {
        let entry = entry?;
        let path = below.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            collect(src, &path, sources)?;
        } else {
            let text = read(&entry.path())?;
            sources.push(Source { path, text });
        }
    }
    Ok(())
}

/// Returns true if these sources use another folder of the crate: by a path into it, or by a macro of its name.
pub(super) fn use_folder(sources: &[Source], other: &str) -> bool {
    let from_the_root = format!("crate::{other}");
    let imported = [format!("{other}::"), format!("{other}!")];
    sources
        .iter()
        .flat_map(|source| source.text.lines())
        // A link in a comment is not a use.
        .filter(|line| !line.trim_start().starts_with("//"))
        .any(|line| {
            line.contains(&from_the_root)
                || imported
                    .iter()
                    .any(|path| starts_of_words(line, path).next().is_some())
        })
}

impl Source {
    fn is_rust(&self) -> bool {
        self.path
            .extension()
            .is_some_and(|extension| extension == "rs")
    }

    /// Returns the features that the file names in `cfg(feature = "…")`.
    pub(super) fn features(&self) -> Vec<String> {
        let after = self.text.split("feature = \"").skip(1);
        after
            .filter_map(|rest| Some(rest.split_once('"')?.0.to_owned()))
            .collect()
    }

    /// Returns true if the file names an item of this crate, in code or in an example.
    pub(super) fn names_crate(&self, name: &str) -> bool {
        let name = name.replace('-', "_");
        self.is_rust()
            && starts_of_words(&self.text, &format!("{name}::"))
                .next()
                .is_some()
    }

    /// Returns the text with the crate's name replaced by `name`: doc examples use their crate from outside, by its
    /// name.
    pub(super) fn within(&self, name: &str) -> String {
        if !self.is_rust() {
            return self.text.clone();
        }
        let (old, new) = ("holdfast", name.replace('-', "_"));
        let mut text = String::with_capacity(self.text.len());
        let mut done = 0;
        for start in starts_of_words(&self.text, "holdfast::") {
            text.push_str(&self.text[done..start]);
            text.push_str(&new);
            done = start + old.len();
        }
        text.push_str(&self.text[done..]);
        text
    }

    /// Returns the number of lines of code, without comments and tests.
    pub(super) fn lines_of_code(&self) -> usize {
        let is_test = |part: &std::ffi::OsStr| part == "tests.rs" || part == "tests";
        if !self.is_rust() || self.path.iter().any(is_test) {
            return 0;
        }
        let code = self
            .text
            .split("#[cfg(test)]\nmod tests")
            .next()
            .unwrap_or_default();
        let lines = code.lines().map(str::trim_start);
        lines
            .filter(|line| !line.is_empty() && !line.starts_with("//"))
            .count()
    }

    /// Returns true if the paragraph on how to copy names this folder.
    pub(super) fn says_to_copy(&self, folder: &str) -> bool {
        let paragraph = self
            .text
            .split_once("//! # Copying this\n//!\n")
            .map_or("", |(_, after)| after);
        let paragraph = paragraph.split("\n//!\n").next().unwrap_or_default();
        paragraph.contains(&format!("`{folder}`"))
    }
}

/// Returns the places where `text` has `word` and it is not the end of a longer one.
fn starts_of_words<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    text.match_indices(word)
        .map(|(start, _)| start)
        .filter(move |&start| {
            let before = text[..start].chars().next_back();
            !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':')
        })
}
