//! The account of what lies in a folder and is not among its images.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// So many files or folders are named per reason; all are counted.
const NAMED: usize = 100;
/// So many files are in the line for readers.
const SHOWN: usize = 2;
/// So many other programs are.
const PROGRAMS: usize = 8;

/// Why files are not among the images of a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Why {
    /// Images of a kind that is not read.
    KindNotRead,
    /// Images in a folder that another program keeps, or in a hidden one: such a folder is no class.
    OtherProgram,
    /// Images whose name begins with a dot.
    Hidden,
    /// Images that could not be read, see [`Corrupt::Skip`](super::Corrupt::Skip).
    Unreadable,
    /// Images that nobody asked for, see [`ImageFolder::limit_per_class`](super::ImageFolder::limit_per_class).
    BeyondLimit,
    /// Files that are no images.
    NoImage,
}

/// Files that are not among the images of a folder, for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LeftOutFiles {
    /// The reason.
    pub why: Why,
    /// What the reason is about: the kind (`heic`) or the name of the other program's folder (`@eaDir`); else empty.
    pub what: String,
    /// How many.
    pub files: usize,
    /// Whether there may be more: some part of another program's folder was not looked at.
    pub more: bool,
    /// The first 100, as paths below the folder; of another program's folders the folders; of unreadable files the paths as
    /// they were opened.
    pub names: Vec<String>,
}

/// All that is left out, while a folder is looked through.
#[derive(Debug, Default)]
pub(super) struct Account(BTreeMap<(Why, String), LeftOutFiles>);

impl Account {
    /// Adds so many files, and a name for them.
    pub fn add(&mut self, why: Why, what: &str, (files, more): (usize, bool), name: impl FnOnce() -> String) {
        let empty = || LeftOutFiles { why, what: what.to_string(), files: 0, more: false, names: Vec::new() };
        let entry = self.0.entry((why, what.to_string())).or_insert_with(empty);
        entry.files += files;
        entry.more |= more;
        if entry.names.len() < NAMED {
            entry.names.push(name());
        }
    }

    /// By reason, then by what it is about.
    pub fn finish(self) -> Vec<LeftOutFiles> {
        self.0.into_values().collect()
    }
}

impl LeftOutFiles {
    /// Why, in words: `of the kind heic, which is not read`.
    pub fn reason(&self) -> String {
        match self.why {
            Why::KindNotRead => format!("of the kind {}, which is not read", self.what),
            Why::OtherProgram => format!("in folders of another program ({}), which are no classes", self.what),
            Why::Hidden => "hidden".to_string(),
            Why::Unreadable => "unreadable".to_string(),
            Why::BeyondLimit => "beyond the limit per class".to_string(),
            Why::NoImage if self.files == 1 => "no image".to_string(),
            Why::NoImage => "no images".to_string(),
        }
    }

    /// Images that could not be read, by path.
    pub fn unreadable<'a>(paths: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let mut account = Account::default();
        paths.into_iter().for_each(|path| account.add(Why::Unreadable, "", (1, false), || path.to_string()));
        account.finish().pop()
    }
}

/// What is left out, as the end of a sentence about images: `, 3 files left out: 2 heic are not read (a/1.heic, …), 1
/// unreadable (b/2.jpg); 40 beyond the limit per class`. Empty where nothing is.
///
/// Names are as they are: whoever shows them escapes them.
pub fn left_out_sentence(left_out: &[LeftOutFiles]) -> String {
    let of = |why: Why| left_out.iter().filter(move |l| l.why == why).collect::<Vec<_>>();
    let files = |all: &[&LeftOutFiles]| all.iter().map(|l| l.files).sum::<usize>();
    let number = |all: &[&LeftOutFiles]| {
        let at_least = if all.iter().any(|l| l.more) { "at least " } else { "" };
        format!("{at_least}{}", files(all))
    };
    let mut parts = Vec::new();
    let kinds = of(Why::KindNotRead);
    if !kinds.is_empty() {
        let each: Vec<String> = kinds.iter().map(|l| format!("{} {}", l.files, l.what)).collect();
        let verb = if files(&kinds) == 1 { "is" } else { "are" };
        parts.push(format!(
            "{} {verb} not read ({})",
            each.join(", "),
            some(kinds.iter().flat_map(|l| &l.names), SHOWN)
        ));
    }
    let programs = of(Why::OtherProgram);
    if !programs.is_empty() {
        let names = programs.iter().map(|l| &l.what);
        parts.push(format!("{} in folders of other programs ({})", number(&programs), some(names, PROGRAMS)));
    }
    for (why, word) in [(Why::Hidden, "hidden"), (Why::Unreadable, "unreadable")] {
        let all = of(why);
        if !all.is_empty() {
            parts.push(format!("{} {word} ({})", number(&all), some(all.iter().flat_map(|l| &l.names), SHOWN)));
        }
    }
    let mut text = String::new();
    if !parts.is_empty() {
        let wanted = [Why::KindNotRead, Why::OtherProgram, Why::Hidden, Why::Unreadable];
        let all: Vec<&LeftOutFiles> = left_out.iter().filter(|l| wanted.contains(&l.why)).collect();
        let noun = if files(&all) == 1 { "file" } else { "files" };
        text = format!(", {} {noun} left out: {}", number(&all), parts.join(", "));
    }
    let (beyond, others) = (of(Why::BeyondLimit), of(Why::NoImage));
    if !beyond.is_empty() {
        text += &format!("; {} beyond the limit per class", files(&beyond));
    }
    if !others.is_empty() {
        let are = if files(&others) == 1 { "file is no image" } else { "files are no images" };
        text += &format!("; {} other {are}", files(&others));
    }
    text
}

/// The first few.
fn some<'a>(names: impl IntoIterator<Item = &'a String>, shown: usize) -> String {
    let mut names = names.into_iter();
    let mut shown: Vec<&str> = names.by_ref().take(shown).map(String::as_str).collect();
    if names.next().is_some() {
        shown.push("…");
    }
    shown.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sentence_counts_what_is_left_out_apart_from_what_nobody_asked_for() {
        let mut account = Account::default();
        let mut add = |why, what: &str, files, name: &str| account.add(why, what, (files, false), || name.to_string());
        add(Why::BeyondLimit, "", 40, "a/11.jpg");
        add(Why::NoImage, "", 1, "labels.csv");
        add(Why::KindNotRead, "heic", 1, "a/1.heic");
        add(Why::KindNotRead, "heic", 1, "a/2.heic");
        add(Why::KindNotRead, "avif", 1, "b/1.avif");
        add(Why::OtherProgram, "@eaDir", 4, "a/@eaDir");
        add(Why::Hidden, "", 1, "a/._1.jpg");
        let mut left_out = account.finish();
        left_out.extend(LeftOutFiles::unreadable(["b/2.jpg"]));
        assert_eq!(
            left_out_sentence(&left_out),
            ", 9 files left out: 1 avif, 2 heic are not read (b/1.avif, a/1.heic, …), 4 in folders of other programs \
             (@eaDir), 1 hidden (a/._1.jpg), 1 unreadable (b/2.jpg); 40 beyond the limit per class; 1 other file is no \
             image"
        );
        assert_eq!(left_out_sentence(&[]), "");
    }
}
