//! Whether code that did not run in the traced pass needs what an edit changes.
//!
//! A plan follows the operators of one pass. A second method, the other side of an `if`, a loop that was not entered may
//! read the same weights, or get the channels that go. Which values carry these channels is followed through the code from
//! the parameters that make them to the parameters that no longer read them; nothing is run.

use crate::graph::code::{Block, Code, Method, Node};
use crate::graph::{Graph, Origin, ValueId, ops};
use std::collections::{BTreeSet, HashMap};

/// What an edit changes, as the traced pass shows it.
#[derive(Debug)]
pub(super) struct Touched {
    /// Parameters that are changed.
    edited: BTreeSet<usize>,
    /// Parameters whose readers make the channels that go. Edited ones that are none of them stop reading these channels.
    makers: BTreeSet<usize>,
    /// Whether channels leave, so that tensors have another shape.
    shrinks: bool,
}

impl Touched {
    /// Parameters whose numbers change.
    pub fn parameters(edited: BTreeSet<usize>) -> Self {
        Self { edited, makers: BTreeSet::new(), shrinks: false }
    }

    /// Parameters of which parts are set to 0, and the values that are then 0 or not read. What is 0 is so for all readers;
    /// what is not read any more may have others.
    pub fn by_zeros(graph: &Graph, edited: BTreeSet<usize>, silent: BTreeSet<ValueId>) -> Self {
        let mut touched = Self::new(graph, edited, silent);
        touched.makers.retain(|p| !touched.edited.contains(p));
        Self { shrinks: false, ..touched }
    }

    fn new(graph: &Graph, edited: BTreeSet<usize>, losing: BTreeSet<ValueId>) -> Self {
        let mut makers = BTreeSet::new();
        let mut work: Vec<ValueId> = losing.iter().copied().collect();
        let mut seen = losing.clone();
        while let Some(value) = work.pop() {
            let Some(op) = graph.producer(value).filter(|_| graph.values[value].parameter.is_none()) else { continue };
            let handed_on = graph.data_inputs(op).any(|v| losing.contains(&v));
            let own = graph.parameters_of(op).map(|(p, _)| p).filter(|p| !handed_on || edited.contains(p));
            let before = makers.len();
            makers.extend(own);
            // Nothing before it loses channels and it has no weights: those are further up.
            if !handed_on && makers.len() == before && graph.parameters_of(op).next().is_none() {
                work.extend(graph.data_inputs(op).filter(|v| seen.insert(*v)));
            }
        }
        // Constants have no number in the code.
        makers.retain(|p| *p < graph.named());
        Self { edited: edited.into_iter().filter(|p| *p < graph.named()).collect(), makers, shrinks: true }
    }

    /// Values that lose channels, parameters among them.
    pub fn by_cuts(graph: &Graph, values: impl Iterator<Item = ValueId>) -> Self {
        let (mut edited, mut losing) = (BTreeSet::new(), BTreeSet::new());
        for value in values {
            match (graph.values[value].origin, graph.values[value].parameter) {
                (_, None) => drop(losing.insert(value)),
                (Origin::Parameter, Some((p, _))) => drop(edited.insert(p)),
                _ => {}
            }
        }
        Self::new(graph, edited, losing)
    }

    /// What the plan says of code that it does not follow.
    ///
    /// # Errors
    /// Why the edit is refused: code that did not run needs what is edited, and nobody has allowed that.
    pub fn notes(&self, graph: &Graph) -> Result<Vec<String>, String> {
        let found = match &graph.code {
            Code::Hidden => return Ok(unread(graph).into_iter().collect()),
            Code::Unreadable(why) => vec![format!("what the traced pass did not run is not known ({why})")],
            Code::Module(methods) => self.places(graph, methods),
        };
        match found.as_slice() {
            [] if self.shrinks => Ok(idle(graph).into_iter().collect()),
            [] => Ok(Vec::new()),
            _ if graph.unseen_allowed => Ok(found),
            [one] => Err(one.clone()),
            [first, rest @ ..] => Err(format!("{first}; and {} more like this", rest.len())),
        }
    }

    /// Every place of the code that did not run and is concerned, as a sentence.
    fn places(&self, graph: &Graph, methods: &[Method]) -> Vec<String> {
        let mut search =
            Search { touched: self, graph, states: Vec::new(), held: self.makers.clone(), found: Vec::new() };
        search.states = methods.iter().map(|_| HashMap::new()).collect();
        loop {
            let before = search.size();
            for (i, method) in methods.iter().enumerate() {
                search.flow(i, &method.body);
            }
            if search.size() == before {
                break;
            }
        }
        for (i, method) in methods.iter().enumerate() {
            let name = format!("the method `{}`", method.name);
            let private = method.name.rsplit('.').next().is_some_and(|last| last.starts_with('_'));
            match (method.forward, method.called) {
                (true, _) => search.walk(i, &method.body, None),
                (_, false) => {
                    search.walk(i, &method.body, Some(&format!("{name} did not run in the traced pass and")));
                    search.interface(i, method, &name);
                }
                // `forward` shows what it computes; what goes in and out does not stay as it was.
                (_, true) if !private => search.interface(i, method, &name),
                _ => {}
            }
        }
        search.found.into_iter().map(|place| place.sentence).collect()
    }
}

/// Layers that did not run and are not concerned outside training: in training, which is not looked at, they may be.
fn idle(graph: &Graph) -> Option<String> {
    let idle: Vec<String> = graph.unread.iter().filter(|l| l.did_not_run()).map(|l| format!("`{}`", l.layer)).collect();
    let training = "code that only runs in training mode is not looked at";
    (!idle.is_empty()).then(|| format!("the traced pass did not run {}; {training}", super::list(&idle)))
}

/// What a network whose code cannot be seen says at least: the variables that nothing read.
fn unread(graph: &Graph) -> Option<String> {
    let read: BTreeSet<usize> = graph.values.iter().filter_map(|v| v.parameter).map(|(p, _)| p).collect();
    let names: Vec<String> =
        (0..graph.named()).filter(|p| !read.contains(p)).map(|p| format!("`{}`", graph.parameters[p])).collect();
    let not_followed = "the network's code cannot be seen, so what it does elsewhere is not followed";
    (!names.is_empty()).then(|| format!("the traced pass did not read {}; {not_followed}", super::list(&names)))
}

/// What a value is for an edit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// No tensor, or one that is never read.
    Absent,
    /// A parameter that is edited so that it no longer reads the channels.
    Deaf,
    /// It has the channels that go.
    Losing,
}

struct Search<'a> {
    touched: &'a Touched,
    graph: &'a Graph,
    /// Per method, what is known of its values.
    states: Vec<HashMap<usize, State>>,
    /// Attributes that hold the channels that go: the makers, and what was stored.
    held: BTreeSet<usize>,
    found: Vec<Place>,
}

/// Code that did not run and is concerned.
struct Place {
    /// How its sentences begin.
    begins: String,
    sentence: String,
    /// Whether it names a parameter.
    names: bool,
}

impl Search<'_> {
    fn size(&self) -> usize {
        self.held.len() + self.states.iter().map(HashMap::len).sum::<usize>()
    }

    fn is(&self, method: usize, value: usize, state: State) -> bool {
        self.states[method].get(&value) == Some(&state)
    }

    fn any(&self, method: usize, values: &[usize], state: State) -> bool {
        values.iter().any(|v| self.is(method, *v, state))
    }

    fn mark(&mut self, method: usize, values: &[usize], state: State) {
        for value in values {
            self.states[method].entry(*value).or_insert(state);
        }
    }

    /// Follows the channels through a block.
    fn flow(&mut self, m: usize, block: &Block) {
        for node in &block.nodes {
            node.blocks.iter().for_each(|b| self.flow(m, b));
            let losing = self.any(m, &node.inputs, State::Losing);
            match (node.op.as_str(), node.tensor) {
                ("absent", _) => self.mark(m, &node.outputs, State::Absent),
                ("prim::GetAttr", Some(t)) if self.held.contains(&t) => self.mark(m, &node.outputs, State::Losing),
                ("prim::GetAttr", Some(t)) if self.touched.edited.contains(&t) => {
                    self.mark(m, &node.outputs, State::Deaf);
                }
                ("prim::SetAttr", Some(t)) if losing => drop(self.held.insert(t)),
                _ if node.is_branch() => self.join(m, node),
                // A view of such a parameter is one as well.
                _ if !node.inputs.is_empty() && node.inputs.iter().all(|v| self.is(m, *v, State::Deaf)) => {
                    self.mark(m, &node.outputs, State::Deaf);
                }
                _ if self.any(m, &node.inputs, State::Deaf) => {}
                (op, _) if losing => {
                    self.mark(m, &node.outputs, State::Losing);
                    if writes_to_its_first(op) {
                        self.mark(m, node.inputs.get(..1).unwrap_or_default(), State::Losing);
                    }
                }
                _ => {}
            }
        }
    }

    fn join(&mut self, m: usize, node: &Node) {
        for join in &node.joins {
            let [result, sides @ ..] = join.as_slice() else { continue };
            let sides = sides.get(..2).unwrap_or_default();
            if self.any(m, sides, State::Losing) {
                self.mark(m, &[*result], State::Losing);
                self.mark(m, join.get(3..).unwrap_or_default(), State::Losing);
            } else if !sides.is_empty() && sides.iter().all(|v| self.is(m, *v, State::Absent)) {
                self.mark(m, &[*result], State::Absent);
            }
        }
    }

    /// Looks for what did not run and is concerned. `unrun` says what it is part of; `None` where the pass came by.
    fn walk(&mut self, m: usize, block: &Block, unrun: Option<&str>) {
        let mut tensors = HashMap::new();
        self.walk_block(m, block, unrun, &mut tensors);
    }

    fn walk_block(&mut self, m: usize, block: &Block, unrun: Option<&str>, tensors: &mut HashMap<usize, usize>) {
        for node in &block.nodes {
            if let ("prim::GetAttr", Some(t), Some(&value)) = (node.op.as_str(), node.tensor, node.outputs.first()) {
                tensors.insert(value, t);
                continue;
            }
            match unrun {
                Some(place) => self.judge(m, node, place, tensors),
                None => self.judge_arguments(m, node),
            }
            let branch = if node.is_branch() && unrun.is_none() { Some(node.describe()) } else { None };
            for inner in node.blocks.iter().filter(|b| !b.raises) {
                let here = match (&branch, inner.ran || node.fixed) {
                    (Some(branch), false) => Some(format!("{branch} has code that did not run in the traced pass and")),
                    _ => None,
                };
                self.walk_block(m, inner, here.as_deref().or(unrun), tensors);
            }
            if let Some(branch) = branch {
                self.compare_sides(m, node, &branch);
            }
        }
    }

    /// Whether an operator that ran does with other arguments of the method something else to channels that go.
    fn judge_arguments(&mut self, m: usize, node: &Node) {
        let Some(argument) = node.decided_by.as_deref().filter(|_| !node.is_branch() && !node.op.starts_with("prim::"))
        else {
            return;
        };
        if !node.outputs.is_empty() && self.any(m, &node.inputs, State::Losing) && !keeps_channels(node) {
            let place = format!("the {argument}, which had its default in the traced pass,");
            self.say(&place, &format!("says what `{}` does with channels that the edit takes away", node.op), false);
        }
    }

    /// Whether an operator that did not run needs what is edited.
    fn judge(&mut self, m: usize, node: &Node, place: &str, tensors: &HashMap<usize, usize>) {
        if node.is_branch() || node.known || node.op.starts_with("prim::") {
            return;
        }
        let read: Vec<usize> = node.inputs.iter().filter_map(|v| tensors.get(v).copied()).collect();
        let name = |parameter: &usize| self.graph.parameters[..self.graph.named()].get(*parameter);
        let edited = read.iter().filter(|t| self.touched.edited.contains(t)).find_map(name);
        if let Some(edited) = edited {
            self.say(place, &format!("reads `{edited}`"), true);
        } else if !node.outputs.is_empty() && self.any(m, &node.inputs, State::Losing) && !keeps_channels(node) {
            let own = read.iter().find_map(name);
            let with = own.map(|own| format!(" (with `{own}`)")).unwrap_or_default();
            self.say(place, &format!("reads channels that the edit takes away{with}"), own.is_some());
        }
    }

    /// Both sides of a branch must leave the same channels, since one of them was followed only.
    fn compare_sides(&mut self, m: usize, node: &Node, branch: &str) {
        if node.fixed || node.blocks.iter().any(|b| b.raises) {
            return;
        }
        let differ = node.joins.iter().any(|join| {
            let known = |v: &&usize| !self.is(m, **v, State::Absent);
            let sides: Vec<bool> =
                join.iter().skip(1).take(2).filter(known).map(|v| self.is(m, *v, State::Losing)).collect();
            matches!(sides.as_slice(), [one, other] if one != other)
        });
        if differ {
            self.say(branch, "gives other channels to what follows when it goes the other way", false);
        }
    }

    /// What a method that `forward` calls takes and returns, for those who call it themselves.
    fn interface(&mut self, m: usize, method: &Method, name: &str) {
        if !self.touched.shrinks {
            return;
        }
        if self.any(m, &method.returns, State::Losing) {
            self.say(name, "returns channels that the edit takes away", false);
        }
        if self.takes_less(m, &method.body, &mut BTreeSet::new()) {
            self.say(name, "takes channels that the edit takes away", false);
        }
    }

    /// Whether a parameter that no longer reads the channels is given something else than what has lost them.
    fn takes_less(&self, m: usize, block: &Block, attributes: &mut BTreeSet<usize>) -> bool {
        block.nodes.iter().any(|node| {
            if node.op == "prim::GetAttr" {
                attributes.extend(&node.outputs);
                return false;
            }
            let plain = |v: &usize| !attributes.contains(v) && !self.states[m].contains_key(v);
            let deaf = self.any(m, &node.inputs, State::Deaf) && !self.any(m, &node.inputs, State::Losing);
            deaf && node.inputs.iter().any(plain)
                || node.blocks.iter().any(|b| b.ran && self.takes_less(m, b, &mut attributes.clone()))
        })
    }

    /// One sentence per place: the first, or the first that names a parameter.
    fn say(&mut self, begins: &str, rest: &str, names: bool) {
        let said = self.found.iter().position(|p| p.begins.starts_with(begins) || begins.starts_with(&p.begins));
        let place = Place { begins: begins.to_string(), sentence: format!("{begins} {rest}"), names };
        match said {
            None => self.found.push(place),
            Some(i) if names && !self.found[i].names => self.found[i] = place,
            Some(_) => {}
        }
    }
}

/// Whether an operator leaves every channel where it is, however many there are, and 0 where it is 0.
fn keeps_channels(node: &Node) -> bool {
    let name = ops::canonical(&node.op);
    let copies = matches!(name, "dropout" | "feature_dropout" | "clone" | "contiguous" | "detach" | "alias" | "to");
    let collects = matches!(name, "append" | "getitem");
    node.inputs.len() == 1 && (copies || ops::maps_zero_to_zero(name) == Some(true) && name != "prelu") || collects
}

fn writes_to_its_first(op: &str) -> bool {
    ops::is_in_place(op, "") || matches!(op, "aten::append" | "aten::insert" | "aten::extend" | "aten::_set_item")
}
