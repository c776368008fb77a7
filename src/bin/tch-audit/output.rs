//! Where reports go: standard output, files, a folder. What fails keeps nothing else from being written.

use crate::Common;
use anyhow::Context;
use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use tch_audit::Error;
use tch_audit::diagnostic::visible;
use tch_audit::report::{self, Format, Report, terminal};

/// `--format NAME` or `--format NAME=FILE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub format: Format,
    /// `None`: standard output.
    pub file: Option<PathBuf>,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, file) = match text.split_once('=') {
            Some((_, "")) => return Err("the file after `=` has no name".to_string()),
            Some((name, file)) => (name, Some(PathBuf::from(file))),
            None => (text, None),
        };
        let format = name.parse().map_err(|e: Error| {
            let names: Vec<&str> = Format::ALL.iter().map(|f| f.as_str()).collect();
            format!("{e}; allowed: {}", names.join(", "))
        })?;
        Ok(Self { format, file })
    }
}

/// Refuses what cannot work, before any work is done: two formats on standard output, one file for two things or for
/// something that is read (`inputs`), a file in a folder that is not there (`out` will be).
pub fn check(targets: &[Target], inputs: &[&Path], baseline: Option<&Path>, out: Option<&Path>) -> anyhow::Result<()> {
    let printed: Vec<&str> = targets.iter().filter(|t| t.file.is_none()).map(|t| t.format.as_str()).collect();
    anyhow::ensure!(
        printed.len() < 2,
        "--format: received {} for standard output, allowed one; the others go to files, as in `{}=FILE`",
        printed.join(" and "),
        printed.last().unwrap_or(&"sarif")
    );
    let files = targets.iter().filter_map(|t| Some((format!("--format {}", t.format), t.file.as_deref()?)));
    let files = files.chain(baseline.map(|file| ("--baseline".to_string(), file)));
    let in_folder: Vec<PathBuf> = out.into_iter().flat_map(|out| report::FILES.map(|name| out.join(name))).collect();
    let mut seen: Vec<(PathBuf, String)> = Vec::new();
    for (flag, file) in files.chain(in_folder.iter().map(|file| ("--out".to_string(), file.as_path()))) {
        // The folder of --out need not be there yet.
        if out.is_none_or(|out| folder_of(file) != out) {
            check_file(file).context(flag.clone())?;
        }
        if is_special(file) {
            continue;
        }
        let place = real(file);
        if let Some(input) = inputs.iter().find(|input| real(input) == place) {
            anyhow::bail!("{flag}: {} would overwrite what is read, {}", file.display(), input.display());
        }
        if let Some((_, other)) = seen.iter().find(|(p, _)| *p == place) {
            anyhow::bail!("{flag}: {} is written twice, also by {other}", file.display());
        }
        seen.push((place, flag));
    }
    if let Some(out) = out {
        let nearest = out.ancestors().find(|p| p.as_os_str().is_empty() || p.exists()).unwrap_or(out);
        anyhow::ensure!(
            nearest.as_os_str().is_empty() || nearest.is_dir(),
            "--out: cannot make the folder {}: {} is a file",
            out.display(),
            nearest.display()
        );
    }
    Ok(())
}

/// Where a file really is, also one that is not there yet.
pub fn real(file: &Path) -> PathBuf {
    fs::canonicalize(file).unwrap_or_else(|_| {
        let folder = fs::canonicalize(folder_of(file)).unwrap_or_else(|_| folder_of(file).to_path_buf());
        folder.join(file.file_name().unwrap_or_default())
    })
}

/// Refuses a file that cannot be written because of where it is.
pub fn check_file(file: &Path) -> anyhow::Result<()> {
    let folder = folder_of(file);
    anyhow::ensure!(folder.is_dir(), "cannot write {}: there is no folder {}", file.display(), folder.display());
    anyhow::ensure!(!file.is_dir(), "cannot write {}: it is a folder", file.display());
    if !is_special(file) {
        let made = tempfile::tempfile_in(folder).map_err(|e| io::Error::from(e.kind()));
        made.with_context(|| format!("cannot write to the folder {}", folder.display()))?;
    }
    Ok(())
}

fn folder_of(file: &Path) -> &Path {
    file.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A pipe or device: written to as it is.
pub fn is_special(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|m| !m.is_file() && !m.is_dir())
}

/// Writes to standard output; that nobody reads on is no error.
pub fn print(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> anyhow::Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    match write(&mut out).and_then(|()| out.flush()) {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => {
            // What is left in the buffer would be tried again when it is dropped.
            drop(out.into_parts());
            Ok(())
        }
        other => other.context("writing to standard output"),
    }
}

/// Every format to its place, and the summary to standard output unless a format goes there. Returns what failed.
pub fn write(report: &Report, targets: &[Target], common: &Common) -> Vec<anyhow::Error> {
    let mut failed = Vec::new();
    let mut printed = common.quiet;
    for Target { format, file } in targets {
        let written = match file {
            Some(file) => format.save(report, file).map_err(anyhow::Error::from),
            None => {
                printed = true;
                match format {
                    Format::Text => summary(report, common),
                    _ => print(|out| format.write(report, out)),
                }
            }
        };
        failed.extend(written.with_context(|| format!("format {format}")).err());
    }
    if !printed {
        failed.extend(summary(report, common).err());
    }
    failed
}

fn summary(report: &Report, common: &Common) -> anyhow::Result<()> {
    let mut style = terminal::Style::detect();
    style.color = common.color.wanted();
    print(|out| terminal::write_styled(report, style, out))
}

/// One line, without what a terminal would obey.
pub fn line(text: &str) -> String {
    visible(&text.replace(['\r', '\n', '\t'], " "))
}

/// Says something beside the output; that nobody can hear it is no error.
pub fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{}", visible(text));
}

/// A word of a command line, quoted where a shell would take it apart.
pub fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=,:@+%".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_string()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_have_a_name_and_may_have_a_file() {
        let target = |text: &str| text.parse::<Target>();
        assert_eq!(target("sarif"), Ok(Target { format: Format::Sarif, file: None }));
        assert_eq!(target("json=a=b"), Ok(Target { format: Format::Json, file: Some("a=b".into()) }));
        assert!(target("sarif=").is_err());
        assert!(target("sariff").is_err_and(|e| e.contains("did you mean `sarif`") && e.contains("junit")));
    }

    #[test]
    fn words_survive_a_shell() {
        assert_eq!(quoted("layer3.1/a=b"), "layer3.1/a=b");
        assert_eq!(quoted("layer*"), "'layer*'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted(""), "''");
    }
}
