//! Generates the list of the files in `assets`, which the binary embeds.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

fn main() {
    println!("cargo:rerun-if-changed=assets");
    let assets =
        PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("assets");
    let mut files = Vec::new();
    collect(&assets, &mut files);
    files.sort();
    let rows: String = files
        .iter()
        .filter_map(|path| {
            let name = path.strip_prefix(&assets).ok()?.to_str()?;
            let path = path.to_str()?;
            Some(format!("    ({name:?}, include_bytes!({path:?})),\n"))
        })
        .collect();
    let target = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it")).join("assets.rs");
    fs::write(target, format!("&[\n{rows}]")).expect("a writable target folder");
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    println!("cargo:rerun-if-changed={}", folder.display());
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, files);
        } else {
            files.push(path);
        }
    }
}
