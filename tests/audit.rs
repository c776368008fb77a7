//! One audit with a describer and a source of evidence of the user's own: what is run, what is kept, and what decides.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tch::nn::{self, ModuleT};
use tch::{Device, Tensor};
use tch_audit::audit::{Audit, Leftovers, Settings};
use tch_audit::describe::{Describer, Description, Say, Status};
use tch_audit::evidence::{ConceptEvidence, EvidenceSource, Needs, Study};
use tch_audit::exemplars::Exemplars;
use tch_audit::policy::{Code, Level, Policies, Standing, Verdict};
use tch_audit::probe::{Images, Probe, drawn};
use tch_audit::report::{ModelInfo, Report};
use tch_audit::{ConceptName, Error, Model, Result, Traced};

const SIDE: usize = 16;

/// Names a unit after the class of the image that excites it most; counts what it is asked.
#[derive(Default)]
struct Nearest {
    asked: AtomicUsize,
    /// After so many units it fails.
    fails_after: Option<usize>,
    version: u32,
}

impl Describer for Nearest {
    fn name(&self) -> &str {
        "nearest"
    }

    fn fingerprint(&self) -> String {
        format!("nearest {}", self.version)
    }

    fn describe(&self, study: &Study<'_>, units: &[usize], say: &mut Say<'_>) -> Result<()> {
        for (i, &place) in units.iter().enumerate() {
            if self.fails_after == Some(i) {
                return Err(Error::Io {
                    action: "ask",
                    path: "nobody".into(),
                    source: std::io::ErrorKind::Other.into(),
                });
            }
            self.asked.fetch_add(1, Ordering::SeqCst);
            let best = study.unit(place).and_then(|unit| unit.top.first());
            let name = best.map(|e| study.images.name(e.image).split('-').next().unwrap_or_default().to_string());
            say(place, name.map_or_else(Description::dead, |class| Description::words(format!("like a {class}"))))?;
        }
        Ok(())
    }
}

/// Says of a unit which share of its exemplars are stars: a share and an r, and nothing else.
#[derive(Default)]
struct Stars {
    concepts: Vec<ConceptName>,
    asked: AtomicUsize,
}

impl Stars {
    fn new() -> Self {
        Self { concepts: vec![ConceptName::new("star", "figure", "a star")], asked: AtomicUsize::new(0) }
    }
}

impl EvidenceSource for Stars {
    fn name(&self) -> &str {
        "stars"
    }

    fn concepts(&self) -> &[ConceptName] {
        &self.concepts
    }

    fn fingerprint(&self, _: &dyn Images) -> String {
        "stars 1".into()
    }

    fn measure(&self, study: &Study<'_>, units: &[usize]) -> Result<Vec<Vec<ConceptEvidence>>> {
        self.asked.fetch_add(units.len(), Ordering::SeqCst);
        let measured = units.iter().filter_map(|place| study.unit(*place)).map(|unit| {
            let stars = unit.top.iter().filter(|e| study.images.name(e.image).starts_with("star")).count();
            let share = stars as f64 / unit.top.len().max(1) as f64;
            let own = ConceptEvidence { share: Some(share), r: Some(0.5), ..ConceptEvidence::new("stars", "star") };
            // What is not among its concepts is for describers only.
            vec![own, ConceptEvidence { share: Some(1.0 - share), ..ConceptEvidence::new("stars", "rest") }]
        });
        Ok(measured.collect())
    }
}

/// A small network, and how many images it was shown.
fn network(vs: &nn::VarStore) -> (impl ModuleT, Arc<AtomicUsize>) {
    tch::manual_seed(5);
    let p = vs.root();
    let one = nn::conv2d(&p / "one", 3, 6, 3, Default::default());
    let two = nn::conv2d(&p / "two", 6, 5, 3, Default::default());
    let fc = nn::linear(&p / "fc", 5, 10, Default::default());
    let shown = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&shown);
    let net = nn::func_t(move |x: &Tensor, _| {
        counter.fetch_add(x.size()[0] as usize, Ordering::SeqCst);
        let x = x.apply(&one).relu().apply(&two).relu();
        x.adaptive_avg_pool2d([1, 1]).flat_view().apply(&fc)
    });
    (net, shown)
}

fn settings(describer: Arc<dyn Describer>, sources: Vec<Arc<dyn EvidenceSource>>) -> Settings {
    let mut settings = Settings::default();
    settings.exemplars.k = 4;
    settings.describer = describer;
    settings.sources = sources;
    settings
}

fn policies(text: &str) -> Policies {
    Policies::parse("own", &format!("level = 'deny'\nreason = 'for the test'\n[match]\n{text}")).unwrap()
}

fn images() -> Probe {
    drawn(3, SIDE, 2).unwrap()
}

#[test]
fn a_describer_and_a_source_of_ones_own_reach_policies_and_report() {
    let vs = nn::VarStore::new(Device::Cpu);
    let (net, _) = network(&vs);
    let (nearest, stars) = (Arc::new(Nearest::default()), Arc::new(Stars::new()));
    let settings = settings(nearest.clone(), vec![stars.clone()]);
    let judged =
        policies("any = ['like a {figure}']\nconcepts = ['star']\nmin-share = 0.25\n[groups]\nfigure = ['moon']");
    let audit = Audit::run(&Model::new(&vs, &net), &images(), &settings, &judged).unwrap();
    assert_eq!(audit.units.len(), 11);
    let live = audit.units.iter().filter(|u| u.description.status == Status::Described);
    assert!(live.clone().count() > 5, "{:?}", audit.units);
    for unit in live {
        assert!(unit.description.text.starts_with("like a "), "{unit:?}");
        let [evidence] = unit.evidence.as_slice() else { panic!("{unit:?}: what is listed is what it names") };
        assert_eq!((evidence.source.as_str(), evidence.concept.as_str()), ("stars", "star"));
        assert_eq!((evidence.auc, evidence.effect, evidence.r), (None, None, Some(0.5)));
    }
    let by_words = audit.units.iter().filter(|u| u.description.text == "like a moon").map(|u| &u.id);
    let by_evidence = audit.units.iter().filter(|u| u.evidence.iter().any(|e| e.share >= Some(0.25))).map(|u| &u.id);
    let expected: BTreeSet<_> = by_words.chain(by_evidence).collect();
    let found: BTreeSet<_> = audit.outcome.findings.iter().map(|f| &f.unit).collect();
    assert!(!found.is_empty());
    assert_eq!(found, expected, "a minimum that the source measures decides; it measures no AUC, and none is asked");
    assert!(audit.describer.contains("nearest 0") && audit.describer.contains("stars 1"), "{}", audit.describer);
}

#[test]
fn only_what_somebody_asks_for_is_run() {
    let vs = nn::VarStore::new(Device::Cpu);
    let (net, shown) = network(&vs);
    let model = Model::new(&vs, &net);
    let painting = Settings::default().sources;
    let count = |policy: &str, sources: Vec<Arc<dyn EvidenceSource>>| {
        let before = shown.load(Ordering::SeqCst);
        let settings = settings(Arc::new(Nearest::default()), sources);
        Audit::run(&model, &images(), &settings, &policies(policy)).unwrap();
        shown.load(Ordering::SeqCst) - before
    };
    let least = count("any = ['moon']", Vec::new());
    // One image to trace with, each for its exemplars, each for the accuracy.
    assert_eq!(least, 1 + 30 + 30);
    assert_eq!(
        count("any = ['moon']", painting.clone()),
        least,
        "words from elsewhere, and no policy asks for a paint"
    );
    assert!(count("any = ['moon']\nconcepts = ['text']", painting) > 10 * least, "a policy asks for text");
    let stars = Arc::new(Stars::new());
    count("any = ['moon']", vec![stars.clone()]);
    assert_eq!(stars.asked.load(Ordering::SeqCst), 0);
    count("concepts = ['star']\nmin-share = 0.9", vec![stars.clone()]);
    assert_eq!(stars.asked.load(Ordering::SeqCst), 11);
}

/// An audit that keeps words in a file.
fn kept_in(folder: &std::path::Path, model: &Model<'_>, settings: &Settings, policies: &Policies) -> Result<Audit> {
    let images = images();
    let traced = Traced::new(model, &images.tensor(0..1)?)?;
    let sites = traced.select(&settings.sites)?;
    let exemplars = Exemplars::compute(&traced, &sites, &images, &settings.exemplars)?;
    let mut leftovers = Leftovers::open(folder.join("words.jsonl"), false)?;
    Audit::from(&traced, &images, settings, policies, exemplars, &mut leftovers)
}

#[test]
fn words_are_kept_where_all_that_made_them_is_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let vs = nn::VarStore::new(Device::Cpu);
    let (net, _) = network(&vs);
    let model = Model::new(&vs, &net);
    let (nearest, stars) = (Arc::new(Nearest::default()), Arc::new(Stars::new()));
    let same = settings(nearest.clone(), vec![stars.clone()]);
    let harmless = policies("concepts = ['star']\nmin-share = 1.0\nany = ['zebra']");
    let first = kept_in(folder.path(), &model, &same, &harmless).unwrap();
    let asked = |describer: &Nearest| describer.asked.swap(0, Ordering::SeqCst);
    assert_eq!((first.kept, asked(&nearest)), (0, 11));
    let second = kept_in(folder.path(), &model, &same, &harmless).unwrap();
    assert_eq!((second.kept, asked(&nearest)), (11, 0));
    assert_eq!(first.units, second.units);

    // Weights behind a site leave its words as they are; weights in front of it do not.
    tch::no_grad(|| drop(vs.variables()["two.bias"].shallow_clone().g_add_scalar_(0.01)));
    let third = kept_in(folder.path(), &model, &same, &harmless).unwrap();
    assert_eq!((third.kept, asked(&nearest)), (6, 5));

    let changed = |change: &dyn Fn(&mut Settings)| {
        let mut settings = same.clone();
        change(&mut settings);
        kept_in(folder.path(), &model, &settings, &harmless).unwrap().kept
    };
    assert_eq!(changed(&|_| ()), 11);
    assert_eq!(changed(&|s| s.exemplars.k = 5), 0, "another setting");
    assert_eq!(changed(&|s| s.sources.clear()), 0, "another source");
    assert_eq!(changed(&|s| s.describer = Arc::new(Nearest { version: 1, ..Nearest::default() })), 0);
}

#[test]
fn an_audit_that_was_stopped_goes_on_unit_by_unit() {
    let folder = tempfile::tempdir().unwrap();
    let vs = nn::VarStore::new(Device::Cpu);
    let (net, _) = network(&vs);
    let model = Model::new(&vs, &net);
    let stops = Nearest { fails_after: Some(4), ..Nearest::default() };
    let harmless = policies("any = ['zebra']");
    let error = kept_in(folder.path(), &model, &settings(Arc::new(stops), Vec::new()), &harmless).unwrap_err();
    assert!(error.to_string().contains("cannot ask nobody"), "{error}");
    // A line that was cut off by a kill, and one of another version.
    let file = folder.path().join("words.jsonl");
    let mut text = std::fs::read(&file).unwrap();
    text.extend(b"{\"of\": \"another version\"}\n{\"unit\": {\"site\": \"one\", \"unit\": 5}, \"key\": \"a");
    std::fs::write(&file, text).unwrap();
    let nearest = Arc::new(Nearest::default());
    let audit = kept_in(folder.path(), &model, &settings(nearest.clone(), Vec::new()), &harmless).unwrap();
    assert_eq!((audit.kept, nearest.asked.load(Ordering::SeqCst)), (4, 7));
    let fresh = Audit::run(&model, &images(), &settings(nearest, Vec::new()), &harmless).unwrap();
    assert_eq!(audit.units, fresh.units, "as if it had not been stopped");
}

#[test]
fn a_leftover_never_fails_a_run_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let vs = nn::VarStore::new(Device::Cpu);
    let (net, _) = network(&vs);
    let model = Model::new(&vs, &net);
    let nearest = Arc::new(Nearest::default());
    let settings = settings(nearest.clone(), Vec::new());
    let forbidden = policies("any = ['zebra']");
    let first = kept_in(folder.path(), &model, &settings, &forbidden).unwrap();
    assert_eq!(first.outcome.policies[0].verdict, Verdict::Clean);
    // Somebody else's words under the right hash.
    let file = folder.path().join("words.jsonl");
    let text = std::fs::read_to_string(&file).unwrap();
    let words = &first.units.iter().find(|u| u.description.status == Status::Described).unwrap().description.text;
    let forged = text.replacen(&format!("\"{words}\""), "\"like a zebra\"", 1);
    assert_ne!(text, forged);
    std::fs::write(&file, forged).unwrap();
    nearest.asked.store(0, Ordering::SeqCst);
    let second = kept_in(folder.path(), &model, &settings, &forbidden).unwrap();
    assert_eq!(nearest.asked.load(Ordering::SeqCst), 1, "the unit whose words would have failed the run");
    assert!(!second.outcome.denied());
    assert_eq!((second.kept, &second.units), (10, &first.units));
    // What is confirmed fails the run.
    let denied = kept_in(folder.path(), &model, &settings, &policies(&format!("any = ['{words}']"))).unwrap();
    assert!(denied.outcome.denied());
    let counts = |f: &&tch_audit::policy::Finding| f.level == Level::Deny && f.standing == Standing::New;
    assert_eq!(denied.kept, 11 - denied.outcome.findings.iter().filter(counts).count());
}

/// Breaks its promise in one of several ways.
struct Unreliable(&'static str);

impl Describer for Unreliable {
    fn name(&self) -> &str {
        self.0
    }

    fn fingerprint(&self) -> String {
        self.0.into()
    }

    fn needs(&self) -> Needs {
        Needs::default()
    }

    fn describe(&self, _: &Study<'_>, units: &[usize], say: &mut Say<'_>) -> Result<()> {
        let mut all: Vec<usize> = units.to_vec();
        match self.0 {
            "leaves-one-out" => drop(all.pop()),
            "twice" => all.push(units[0]),
            _ => all.push(99),
        }
        all.into_iter().try_for_each(|place| say(place, Description::words("something")))
    }
}

#[test]
fn a_describer_that_breaks_its_promise_is_named() {
    let vs = nn::VarStore::new(Device::Cpu);
    let (net, _) = network(&vs);
    for (how, what) in [
        ("leaves-one-out", "no description of two/4"),
        ("twice", "another description of one/0"),
        ("too-many", "a description of a unit that it was not asked about"),
    ] {
        let settings = settings(Arc::new(Unreliable(how)), Vec::new());
        let error = Audit::run(&Model::new(&vs, &net), &images(), &settings, &policies("any = ['x']")).unwrap_err();
        let error = error.to_string();
        assert!(error.contains(&format!("describer `{how}`")) && error.contains(what), "{error}");
    }
}

#[test]
fn what_was_not_looked_at_is_part_of_the_verdict() {
    let vs = nn::VarStore::new(Device::Cpu);
    let seen = nn::conv2d(vs.root() / "seen", 3, 4, 3, Default::default());
    let _idle = nn::linear(vs.root() / "idle", 4, 9, Default::default());
    let last = nn::linear(vs.root() / "last", 4, 2, Default::default());
    let net =
        nn::func(move |x| x.apply(&seen).relu().mean_dim([2i64, 3].as_slice(), false, None::<tch::Kind>).apply(&last));
    let model = Model::new(&vs, &net);
    let mut allowed = policies("any = ['unicorn']");
    let settings = settings(Arc::new(Nearest::default()), Vec::new());
    let audited = |policies: &Policies, sites: &str| {
        let mut settings = settings.clone();
        settings.sites = vec![sites.to_string()];
        let audit = Audit::run(&model, &images(), &settings, policies).unwrap();
        let mut report = Report::of(&audit, ModelInfo::default(), &images(), &settings, "");
        report.judge(&audit.outcome, |_| None);
        report.finish()
    };
    let report = audited(&allowed, "auto");
    let coverage = report.coverage.as_ref().unwrap();
    assert_eq!((coverage.layers, coverage.audited, coverage.left_out.as_slice()), (3, 1, &["last".to_string()][..]));
    assert_eq!(coverage.unaudited.iter().map(|l| l.layer.as_str()).collect::<Vec<_>>(), ["idle"]);
    assert!(report.verdict.ends_with("; 1 layer cannot be audited") && !report.denied, "{}", report.verdict);
    let notice = report.notices.iter().find(|n| n.code == Code::UnauditedLayers).unwrap();
    assert!(notice.message.starts_with("1 of 3 layers (26.9 % of the parameters)"), "{}", notice.message);
    assert!(notice.message.contains("idle (it did not run"), "{}", notice.message);

    // What is left out by choice is no reproach; what is denied fails; what is allowed is still told.
    assert_eq!(audited(&allowed, "last").coverage.unwrap().left_out, ["seen"]);
    let mut denied = allowed.clone();
    denied.set_levels([("unaudited-layers", Level::Deny)]).unwrap();
    assert!(audited(&denied, "auto").verdict.starts_with("denied: 1 unaudited-layers"));
    allowed.set_levels([("unaudited-layers", Level::Allow)]).unwrap();
    let report = audited(&allowed, "auto");
    assert!(report.notices.iter().all(|n| n.code != Code::UnauditedLayers));
    assert!(report.verdict.ends_with("; 1 layer cannot be audited"), "{}", report.verdict);
}
