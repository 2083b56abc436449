//! A copy of the workspace, in which mutants are applied.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::book::Mutant;
use crate::{Context, Result, workspace};

/// The copy. The next run repairs what a killed one left in it.
pub(super) struct WorkingCopy {
    pub(super) root: PathBuf,
}

impl WorkingCopy {
    /// Brings the copy up to date. A file that has not changed keeps its time, so that cargo does not build it again.
    pub(super) fn prepare() -> Result<Self> {
        let root = workspace::target().join("mutated");
        copy(&workspace::root(), &root, true)?;
        Ok(Self { root })
    }

    pub(super) fn apply(&self, mutant: &Mutant) -> Result {
        let (original, copy) = self.files(mutant);
        let text = fs::read_to_string(&original).context(original.display())?;
        fs::write(&copy, mutant.applied_to(&text)?).context(copy.display())
    }

    pub(super) fn take_back(&self, mutant: &Mutant) -> Result {
        let (original, copy) = self.files(mutant);
        let text = fs::read(&original).context(original.display())?;
        fs::write(&copy, text).context(copy.display())
    }

    fn files(&self, mutant: &Mutant) -> (PathBuf, PathBuf) {
        let file = Path::new("shared/holdfast").join(&mutant.file);
        (workspace::root().join(&file), self.root.join(file))
    }
}

/// Copies the files that differ, and removes those that no longer exist.
fn copy(from: &Path, to: &Path, is_root: bool) -> Result {
    fs::create_dir_all(to).context(to.display())?;
    let mut names = Vec::new();
    for entry in fs::read_dir(from).context(from.display())? {
        let entry = entry?;
        let name = entry.file_name();
        // The build, which holds the copy, and the history.
        if is_root && (name == "target" || name == ".git") {
            continue;
        }
        let (from, to) = (entry.path(), to.join(&name));
        names.push(name);
        if entry.file_type()?.is_dir() {
            copy(&from, &to, false)?;
        } else {
            let text = fs::read(&from).context(from.display())?;
            if fs::read(&to).ok().as_ref() != Some(&text) {
                fs::write(&to, text).context(to.display())?;
            }
        }
    }
    for entry in fs::read_dir(to).context(to.display())? {
        let entry = entry?;
        if names.contains(&entry.file_name()) {
            continue;
        }
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
