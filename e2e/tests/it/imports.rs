//! The paths that a Rust file uses: imports and inline paths, with `super` and `self` resolved.

use std::path::Path;

use syn::{
    UseTree,
    visit::{self, Visit},
};

/// Returns the module of a file below `src`: `http`, `orders` for `http/orders.rs`; nothing for the crate's root.
pub(crate) fn module(below_src: &Path) -> Vec<String> {
    let mut module: Vec<String> = below_src
        .with_extension("")
        .iter()
        .map(|part| part.to_string_lossy().into_owned())
        .collect();
    let is_folder_s = module
        .last()
        .is_some_and(|last| ["lib", "main", "mod"].contains(&last.as_str()));
    if is_folder_s {
        module.pop();
    }
    module
}

/// Returns every path in the text of a file outside test modules, as its segments. A path within the crate begins with
/// `crate`: from `http`, `super::store::X` is `crate`, `store`, `X`.
pub(crate) fn paths(text: &str, module: &[String]) -> Vec<Vec<String>> {
    let file = syn::parse_file(text).expect("our code parses");
    let mut paths = Paths {
        found: Vec::new(),
        module: module.to_vec(),
    };
    paths.visit_file(&file);
    paths.found
}

struct Paths {
    found: Vec<Vec<String>>,
    /// The module that is being visited: the file's, and those within it.
    module: Vec<String>,
}

impl Paths {
    fn keep(&mut self, mut segments: Vec<String>) {
        let is_up = |segment: &String| segment == "super";
        let is_relative = |segment: &String| segment == "self" || is_up(segment);
        let up = segments.iter().take_while(|part| is_up(part)).count();
        if segments.first().is_some_and(is_relative) && segments.len() > 1 {
            let base = &self.module[..self.module.len().saturating_sub(up)];
            segments = ["crate".to_owned()]
                .into_iter()
                .chain(base.iter().cloned())
                .chain(segments.into_iter().skip_while(is_relative))
                .collect();
        }
        self.found.push(segments);
    }

    fn keep_tree(&mut self, before: &[String], tree: &UseTree) {
        let with = |name: String| [before, &[name]].concat();
        match tree {
            UseTree::Path(path) => self.keep_tree(&with(path.ident.to_string()), &path.tree),
            UseTree::Name(name) => self.keep(with(name.ident.to_string())),
            UseTree::Rename(rename) => self.keep(with(rename.ident.to_string())),
            UseTree::Glob(_) => self.keep(with("*".to_owned())),
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.keep_tree(before, tree);
                }
            }
        }
    }
}

impl<'ast> Visit<'ast> for Paths {
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.keep_tree(&[], &item.tree);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.segments.len() > 1 {
            let segments = path.segments.iter().map(|part| part.ident.to_string());
            self.keep(segments.collect());
        }
        visit::visit_path(self, path);
    }

    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        let is_test = module.attrs.iter().any(|attribute| {
            attribute.path().is_ident("cfg")
                && attribute
                    .parse_args::<syn::Path>()
                    .is_ok_and(|path| path.is_ident("test"))
        });
        if !is_test {
            self.module.push(module.ident.to_string());
            visit::visit_item_mod(self, module);
            self.module.pop();
        }
    }
}
