//! `tch-audit policies init`: files to start from.

use crate::{Common, output};
use anyhow::{Context, bail};
use clap::{Args, ValueHint};
use std::path::{Path, PathBuf};
use tch_audit::policy::{TEMPLATE, shipped_files};
use tch_audit::{diagnostic, exit};

/// Write policies to start from; never overwrites a file.
///
/// PATH.toml becomes a template with every key and its default. A folder gets the policies that come with tch-audit, to be
/// changed as you like, and the template as `template.toml`, which allows everything until you say otherwise.
#[derive(Debug, Args)]
pub struct Arguments {
    /// A folder, or a file that ends in .toml.
    #[arg(default_value = "policies", value_hint = ValueHint::AnyPath)]
    path: PathBuf,
    /// Only these, separated by commas: names of policies that come with tch-audit, or `template`.
    #[arg(long, value_name = "NAME,..", value_delimiter = ',')]
    only: Vec<String>,
}

pub fn run(arguments: &Arguments, common: &Common) -> anyhow::Result<u8> {
    let path = &arguments.path;
    let all: Vec<(&str, &str)> = shipped_files().chain([("template", TEMPLATE)]).collect();
    if let Some(name) = arguments.only.iter().find(|name| !all.iter().any(|(n, _)| n == name)) {
        let valid = all.iter().map(|(n, _)| *n);
        return Err(tch_audit::Error::Unknown {
            kind: "policy",
            name: name.clone(),
            nearest: diagnostic::nearest(name, valid),
        }
        .into());
    }
    let is_file = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("toml"));
    let files: Vec<(PathBuf, &str)> = if is_file {
        let name = match arguments.only.as_slice() {
            [] => "template",
            [one] => one,
            _ => bail!("--only: received several names for the one file {}, allowed one", path.display()),
        };
        all.iter().filter(|(n, _)| *n == name).map(|(_, text)| (path.clone(), *text)).collect()
    } else {
        let wanted = |name: &str| arguments.only.is_empty() || arguments.only.iter().any(|n| n == name);
        all.iter().filter(|(n, _)| wanted(n)).map(|(n, text)| (path.join(format!("{n}.toml")), *text)).collect()
    };
    let there: Vec<String> = files
        .iter()
        .filter(|(file, _)| file.symlink_metadata().is_ok())
        .map(|(f, _)| f.display().to_string())
        .collect();
    if !there.is_empty() {
        bail!("nothing was written, because there is already {}", there.join(", "));
    }
    let folder = if is_file { path.parent().filter(|p| !p.as_os_str().is_empty()) } else { Some(path.as_path()) };
    if let Some(folder) = folder {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    }
    for (file, text) in &files {
        create(file, text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    if !common.quiet {
        let written = |(file, _): &(PathBuf, &str)| output::line(&format!("written: {}", file.display()));
        let use_them = format!("use them: tch-audit check --policies {} ...", output::quoted(&path.to_string_lossy()));
        output::print(|out| {
            files.iter().try_for_each(|file| writeln!(out, "{}", written(file)))?;
            writeln!(out, "{}", output::line(&use_them))
        })?;
    }
    Ok(exit::CLEAN)
}

/// Fails when there is such a file, also one that was made just now; a half-written one is taken away.
fn create(file: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write;
    let mut new = std::fs::OpenOptions::new().write(true).create_new(true).open(file)?;
    new.write_all(text.as_bytes()).inspect_err(|_| drop(std::fs::remove_file(file)))
}
