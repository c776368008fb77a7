//! Describes units by asking another program: a vision-language model behind an interface, say.
//!
//! The program gets one JSON object per line on its standard input, one for each live unit:
//!
//! ```json
//! {"unit":"layer4/3","site":"layer4","channel":3,"exemplars":[
//!   {"image":"/tmp/x/images/12.png","mask":"/tmp/x/masks/0-0.png","name":"tench.jpg","activation":7.1}]}
//! ```
//!
//! (on one line). `image` is a picture as the model sees it, `mask` one of the same size, white where the unit is active. The
//! files are there until the program ends. It answers on its standard output with one line for each unit, in any order:
//!
//! ```json
//! {"unit":"layer4/3","description":"fish scales","score":1.5}
//! ```
//!
//! `score`, in nats, may be left out; an empty description says that there is nothing to say.

use super::{Describer, Description, Say};
use crate::evidence::{Needs, Study};
use crate::exemplars::UnitExemplars;
use crate::probe::{Images, PIXEL_BATCH, Want};
use crate::{Error, Result};
use image::imageops::{FilterType, resize};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Process, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

/// Which program, and how long it may take.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {
    /// The command line, given to the shell.
    pub command: String,
    /// How long it may take from one answer to the next.
    pub timeout: Duration,
}

impl Options {
    /// The command line, with two minutes for each answer.
    pub fn new(command: impl Into<String>) -> Self {
        Self { command: command.into(), timeout: Duration::from_secs(120) }
    }
}

/// The describer; see [the module](self).
#[derive(Debug, Clone)]
pub struct Command {
    options: Options,
}

#[derive(Serialize)]
struct Question<'u> {
    unit: String,
    site: &'u str,
    channel: usize,
    exemplars: Vec<Shown>,
}

#[derive(Serialize)]
struct Shown {
    image: PathBuf,
    mask: PathBuf,
    name: String,
    activation: f32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer {
    unit: String,
    description: String,
    #[serde(default)]
    score: f64,
}

impl Command {
    /// A describer that runs this program.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an empty command and for no time at all.
    pub fn new(options: Options) -> Result<Self> {
        if options.command.trim().is_empty() {
            return Err(Error::invalid("describing command", "nothing", "a command line"));
        }
        if options.timeout.is_zero() {
            return Err(Error::invalid("time for a description", "0 s", "more"));
        }
        Ok(Self { options })
    }

    /// The questions, with pictures in `folder`.
    fn questions(units: &[&UnitExemplars], source: &dyn Images, folder: &Path) -> Result<Vec<String>> {
        let (images, masks) = (folder.join("images"), folder.join("masks"));
        for made in [&images, &masks] {
            std::fs::create_dir_all(made).map_err(Error::io("create", made))?;
        }
        let picture = |i: usize| images.join(format!("{i}.png"));
        pictures(units, source, &picture)?;
        let preprocess = source.preprocess();
        let (width, height) = (preprocess.width as u32, preprocess.height as u32);
        let mut questions = Vec::with_capacity(units.len());
        for (i, unit) in units.iter().enumerate() {
            let mut exemplars = Vec::with_capacity(unit.top.len());
            for (rank, e) in unit.top.iter().enumerate() {
                let mask = masks.join(format!("{i}-{rank}.png"));
                let bytes: Vec<u8> = e.region.bytes().into_iter().map(|b| b * 255).collect();
                let grey = image::GrayImage::from_raw(e.region.width() as u32, e.region.height() as u32, bytes);
                if let Some(grey) = grey {
                    saved(&mask, resize(&grey, width, height, FilterType::Nearest).save(&mask))?;
                }
                let name = source.name(e.image).into_owned();
                exemplars.push(Shown { image: picture(e.image), mask, name, activation: e.activation });
            }
            let question =
                Question { unit: unit.id.to_string(), site: &unit.id.site, channel: unit.id.unit, exemplars };
            let line = serde_json::to_string(&question).map_err(|e| Error::invalid("question", e, "JSON"))?;
            questions.push(line);
        }
        Ok(questions)
    }

    fn wrong(&self, received: impl ToString, allowed: impl Into<String>) -> Error {
        Error::invalid(format!("describing command `{}`", self.options.command), received, allowed)
    }

    /// Asks, and hands every answer on as it comes.
    fn ask(&self, questions: Vec<String>, answered: &mut dyn FnMut(Answer) -> Result<()>) -> Result<()> {
        let expected = questions.len();
        let mut shell = Process::new(if cfg!(windows) { "cmd" } else { "sh" });
        shell.arg(if cfg!(windows) { "/C" } else { "-c" }).arg(&self.options.command);
        shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut shell, 0);
        let child = shell.spawn().map_err(|e| self.wrong(format!("that it cannot be started ({e})"), "a program"))?;
        let mut running = Running(child);
        let (Some(mut input), Some(output), Some(mut complaints)) =
            (running.0.stdin.take(), running.0.stdout.take(), running.0.stderr.take())
        else {
            return Err(self.wrong("no pipes", "a program with input and output"));
        };
        // A program that stops reading is noticed by its answers.
        std::thread::spawn(move || questions.iter().try_for_each(|q| writeln!(input, "{q}")));
        let (say, said) = channel();
        std::thread::spawn(move || {
            let mut text = Vec::new();
            let _ = complaints.by_ref().take(1 << 16).read_to_end(&mut text);
            let _ = say.send(String::from_utf8_lossy(&text).into_owned());
            let _ = std::io::copy(&mut complaints, &mut std::io::sink());
        });
        let (send, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines() {
                if send.send(line).is_err() {
                    break;
                }
            }
        });
        let bar = crate::progress::bar("describing", expected);
        let mut got = 0;
        while got < expected {
            let line = match lines.recv_timeout(self.options.timeout) {
                Ok(Ok(line)) => line,
                Ok(Err(error)) => {
                    return Err(self.wrong(format!("output that cannot be read ({error})"), "lines of UTF-8"));
                }
                Err(RecvTimeoutError::Timeout) => {
                    let seconds = self.options.timeout.as_secs_f64();
                    let received = format!("no answer for {seconds} s, after {got} of {expected}");
                    return Err(self.wrong(received, "an answer in time (or more time)"));
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(self.ended(&mut running, &said, got, expected));
                }
            };
            if line.trim().is_empty() {
                continue;
            }
            let shown: String = line.chars().take(120).collect();
            let answer: Answer = serde_json::from_str(&line)
                .map_err(|e| self.wrong(format!("`{shown}` ({e})"), "{\"unit\": …, \"description\": …} on one line"))?;
            if !answer.score.is_finite() {
                return Err(self.wrong(format!("`{shown}`"), "a finite score"));
            }
            answered(answer)?;
            got += 1;
            bar.inc(1);
        }
        bar.finish_and_clear();
        Ok(())
    }

    /// It ended too early.
    fn ended(&self, running: &mut Running, said: &Receiver<String>, got: usize, expected: usize) -> Error {
        let status = running.0.wait().map_or_else(|e| e.to_string(), |s| s.to_string());
        let said = said.recv_timeout(Duration::from_secs(1)).unwrap_or_default();
        let last: Vec<&str> = said.lines().filter(|l| !l.trim().is_empty()).collect();
        let last = last.last().map_or_else(String::new, |l| format!("; it said: {}", l.trim()));
        self.wrong(format!("its end ({status}) after {got} of {expected} answers{last}"), "an answer for every unit")
    }
}

fn saved(path: &Path, result: image::ImageResult<()>) -> Result<()> {
    result.map_err(|e| Error::io("write", path)(std::io::Error::other(e)))
}

/// A program that is stopped when it is no longer needed, with what it has started.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(Some(_))) {
            return;
        }
        #[cfg(unix)]
        {
            let group = format!("-{}", self.0.id());
            let _ = Process::new("kill").args(["-KILL", "--", &group]).stderr(Stdio::null()).status();
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Writes every image that is an exemplar, once.
fn pictures(units: &[&UnitExemplars], source: &dyn Images, path: &(dyn Fn(usize) -> PathBuf + Sync)) -> Result<()> {
    let distinct: BTreeSet<usize> = units.iter().flat_map(|u| &u.top).map(|e| e.image).collect();
    let numbers: Vec<usize> = distinct.into_iter().collect();
    source.read(&numbers, PIXEL_BATCH, Want::Pixels, &mut |batch| {
        batch.complete()?;
        let all = batch.numbers.par_iter().zip(&batch.pixels);
        all.try_for_each(|(i, image)| saved(&path(*i), image.save(path(*i))))
    })
}

impl Describer for Command {
    fn name(&self) -> &str {
        "command"
    }

    fn needs(&self) -> Needs {
        Needs { regions: true, ..Needs::default() }
    }

    /// Dead units are not asked about.
    ///
    /// # Errors
    /// [`Error::Invalid`] that names the command, for one that cannot be started, ends too early, takes too long or answers
    /// something else; [`Error::Io`] when pictures cannot be written; what reading the images returns.
    fn describe(&self, study: &Study<'_>, units: &[usize], say: &mut Say<'_>) -> Result<()> {
        let (mut live, mut waiting) = (Vec::new(), BTreeMap::new());
        for (place, unit) in units.iter().filter_map(|place| Some((*place, study.unit(*place)?))) {
            if unit.dead || unit.top.is_empty() {
                say(place, Description::dead())?;
            } else {
                live.push(unit);
                waiting.insert(unit.id.to_string(), Some(place));
            }
        }
        if live.is_empty() {
            return Ok(());
        }
        let folder = tempfile::tempdir().map_err(Error::io("create a folder in", std::env::temp_dir()))?;
        let questions = Self::questions(&live, study.images, folder.path())?;
        self.ask(questions, &mut |answer| {
            let place = match waiting.get_mut(&answer.unit) {
                Some(place) => place.take().ok_or_else(|| {
                    self.wrong(format!("two answers for {}", answer.unit), "one answer for each unit")
                })?,
                None => {
                    let received = format!("an answer for {}", answer.unit);
                    return Err(self.wrong(received, "answers for the units asked about"));
                }
            };
            let words = Description::words(answer.description);
            say(place, Description { score: answer.score, log_likelihood: answer.score, ..words })
        })
    }

    fn fingerprint(&self) -> String {
        format!("command {}", self.options.command)
    }
}
