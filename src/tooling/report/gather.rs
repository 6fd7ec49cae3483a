//! Runs read from their folders, sorted into families (one model, data set and loss) of experiments (one setting, any
//! number of seeds), and their numbers over the seeds.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::ReportError;
use super::run::{Method, Summary, TraceRow};
use crate::config::ConvexitySwitchingConfig;

/// A finished run, read back.
pub struct Run {
    pub folder: PathBuf,
    pub summary: Summary,
    pub trace: Vec<TraceRow>,
    /// Everything in `summary.json` that two runs which differ in the seed alone have in common, keys that only another
    /// version knows included.
    pub identity: Value,
}

impl Run {
    /// # Errors
    /// Where the folder is no finished run's or its files cannot be understood.
    pub fn load(folder: &Path) -> Result<Self, ReportError> {
        let not_a_run = |problem| ReportError::NotARun { folder: folder.into(), problem };
        let [summary_path, trace_path] = ["summary.json", "trace.jsonl"].map(|name| folder.join(name));
        match (folder.is_dir(), summary_path.is_file(), trace_path.is_file()) {
            (false, ..) => return Err(not_a_run("there is no such folder")),
            (_, false, true) => {
                return Err(not_a_run(
                    "it has a trace.jsonl but no summary.json, which comes at a run's end: it goes on, or was stopped",
                ));
            }
            (_, false, false) => return Err(not_a_run("it has no summary.json")),
            (_, true, false) => return Err(not_a_run("it has no trace.jsonl")),
            (true, true, true) => {}
        }
        let read = |path: &Path| {
            fs::read_to_string(path).map_err(|source| ReportError::Unreadable { path: path.into(), source })
        };
        let text = read(&summary_path)?;
        let malformed = |source| ReportError::Summary { path: summary_path.clone(), source };
        let summary: Summary = serde_json::from_str(&text).map_err(malformed)?;
        let mut identity: Value = serde_json::from_str(&text).map_err(malformed)?;
        if let Some(keys) = identity.as_object_mut() {
            keys.retain(|key, _| key != "seed" && key != "methods");
            // Where an editor found the schema makes no other experiment.
            keys.get_mut("config").and_then(Value::as_object_mut).map(|config| config.remove("$schema"));
        }
        let rows = read(&trace_path)?;
        let row = |(at, line)| {
            let malformed = |error: serde_json::Error| {
                // Line 1 of the text is a line of the file: of the position only the column is news.
                let (what, column) = (error.to_string(), error.column());
                let what = what.split(" at line ").next().unwrap_or(&what);
                let (path, problem) = (trace_path.clone(), format!("{what}, column {column}"));
                ReportError::Trace { path, line: at + 1, problem }
            };
            serde_json::from_str(line).map_err(malformed)
        };
        let trace: Vec<TraceRow> = rows.lines().enumerate().map(row).collect::<Result<_, _>>()?;
        if summary.methods.is_empty() {
            return Err(not_a_run("its summary.json lists no method"));
        }
        if summary.methods.iter().any(|method| trace.iter().all(|row| row.method != method.name)) {
            return Err(not_a_run("its trace.jsonl lacks a method that its summary.json lists"));
        }
        Ok(Self { folder: folder.into(), summary, trace, identity })
    }

    pub fn method(&self, name: &str) -> Option<&Method> {
        self.summary.methods.iter().find(|method| method.name == name)
    }

    pub fn rows(&self, name: &str) -> Vec<&TraceRow> {
        self.trace.iter().filter(|row| row.method == name).collect()
    }

    /// The train loss of a method when it had cost that much, or at its end before that.
    pub fn loss_at(&self, method: &Method, cost: f64) -> Option<f64> {
        if same_cost(method.cost, cost) || method.cost < cost {
            return Some(method.train_loss);
        }
        self.rows(&method.name).into_iter().rev().find(|row| row.cost <= cost).map(|row| row.train_loss)
    }
}

/// Runs that differ in the seed alone.
pub struct Experiment {
    /// What tells it from the others of its family; empty where it is the only one.
    pub label: String,
    /// By seed.
    pub runs: Vec<Run>,
}

/// Experiments with one model, data set and loss.
pub struct Family {
    pub dataset: String,
    pub model: String,
    pub loss: String,
    pub parameters: usize,
    pub experiments: Vec<Experiment>,
}

/// Families in the order in which their first runs come; a run whose seed its experiment already has opens another one,
/// as it must differ in something that its summary does not say.
pub fn families(runs: Vec<Run>) -> Vec<Family> {
    let mut families: Vec<Family> = vec![];
    for run in runs {
        let Summary { model, dataset, loss, parameters, seed, .. } = &run.summary;
        let key = (dataset, model, loss, parameters);
        let same = |family: &Family| (&family.dataset, &family.model, &family.loss, &family.parameters) == key;
        let at = families.iter().position(same).unwrap_or_else(|| {
            families.push(Family {
                dataset: dataset.clone(),
                model: model.clone(),
                loss: loss.clone(),
                parameters: *parameters,
                experiments: vec![],
            });
            families.len() - 1
        });
        let experiments = &mut families[at].experiments;
        let fits = |experiment: &&mut Experiment| {
            experiment.runs[0].identity == run.identity
                && experiment.runs.iter().all(|other| other.summary.seed != *seed)
        };
        match experiments.iter_mut().find(fits) {
            Some(experiment) => experiment.runs.push(run),
            None => experiments.push(Experiment { label: String::new(), runs: vec![run] }),
        }
    }
    for family in &mut families {
        family.experiments.iter_mut().for_each(|experiment| experiment.runs.sort_by_key(|run| run.summary.seed));
        let identities: Vec<_> = family.experiments.iter().map(|experiment| &experiment.runs[0].identity).collect();
        let labels = distinguish(&identities);
        for (at, experiment) in family.experiments.iter_mut().enumerate() {
            experiment.label = labels[at].clone();
            if labels.iter().filter(|label| **label == labels[at]).count() > 1 {
                let folder = experiment.runs[0].folder.display();
                experiment.label =
                    if labels[at].is_empty() { folder.to_string() } else { format!("{}, {folder}", labels[at]) };
            }
        }
    }
    families
}

/// In as few words as it takes, what is particular to each: all that is not as by default, but for what is so in every one.
fn distinguish(variants: &[&Value]) -> Vec<String> {
    let base = json!({ "config": ConvexitySwitchingConfig::default() });
    let of_each = variants.iter().map(|variant| {
        let mut found = vec![];
        differences(variant, Some(&base), "", "", &mut found);
        found
    });
    let found: Vec<Vec<String>> = of_each.collect();
    let in_all = |word: &&String| found.iter().all(|words| words.contains(word));
    let particular = |words: &Vec<String>| words.iter().filter(|word| !in_all(word)).cloned().collect::<Vec<_>>();
    found.iter().map(|words| particular(words).join(", ")).collect()
}

/// Every value that is not that of `base`, by its path and with the key of the configuration that it is under. An object of another
/// kind goes by the kind, and by what is not as by default there.
fn differences(value: &Value, base: Option<&Value>, key: &str, path: &str, found: &mut Vec<String>) {
    match value {
        _ if base == Some(value) => {}
        Value::Object(fields) => {
            let of_its_kind = kind_of(value).filter(|kind| base.and_then(kind_of) != Some(kind)).map(|kind| {
                found.push(format!("{path} {kind}"));
                defaults(key, kind)
            });
            let base = of_its_kind.as_ref().or(base);
            let in_base = base.and_then(Value::as_object).into_iter().flatten();
            for name in fields.keys().chain(in_base.map(|(name, _)| name)).collect::<BTreeSet<_>>() {
                let path = if path.is_empty() || path == "config" { name } else { &format!("{path}.{name}") };
                let key = if key == "config" || key.is_empty() { name } else { key };
                match fields.get(name) {
                    Some(value) => differences(value, base.and_then(|base| base.get(name)), key, path, found),
                    None => found.push(format!("{path} none")),
                }
            }
        }
        Value::Array(parts) if kinds_of(parts).is_some() => {
            let kinds = kinds_of(parts).unwrap_or_default();
            let alike = base.and_then(Value::as_array).filter(|base| kinds_of(base).as_ref() == Some(&kinds));
            if alike.is_none() {
                found.push(format!("{path} {}", kinds.join(" + ")));
            }
            for (at, (part, kind)) in parts.iter().zip(kinds).enumerate() {
                let base = alike.map_or_else(|| defaults(key, kind), |base| base[at].clone());
                // By its kind: `loss_slope.rate`, not `detector.of.1.rate`.
                differences(part, Some(&base), key, kind, found);
            }
        }
        Value::String(text) => found.push(format!("{path} {text}")),
        other => found.push(format!("{path} {other}")),
    }
}

fn kind_of(value: &Value) -> Option<&str> {
    value.get("kind")?.as_str()
}

/// The kinds of the parts a list is made of.
fn kinds_of(parts: &[Value]) -> Option<Vec<&str>> {
    parts.iter().map(kind_of).collect()
}

/// What an object of this kind is by default under this key of the configuration; its kind alone where it has keys without
/// a default, or is of no known kind.
fn defaults(key: &str, kind: &str) -> Value {
    let kind = json!({ "kind": kind });
    let config = serde_json::from_value::<ConvexitySwitchingConfig>(json!({ key: kind }));
    let config = config.ok().and_then(|config| serde_json::to_value(config).ok());
    config.and_then(|mut config| config.get_mut(key).map(Value::take)).unwrap_or(kind)
}

/// The numbers by which a method is judged.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Metric {
    TrainLoss,
    /// The train loss with the penalty.
    Objective,
    TrainAccuracy,
    ValidLoss,
    ValidAccuracy,
}

impl Metric {
    const ALL: [Self; 5] =
        [Self::TrainLoss, Self::Objective, Self::TrainAccuracy, Self::ValidLoss, Self::ValidAccuracy];

    /// All of them; the objective where there is a penalty.
    pub fn all(penalised: bool) -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(move |metric| penalised || *metric != Self::Objective)
    }

    pub fn name(self) -> &'static str {
        ["train loss", "objective", "train accuracy", "validation loss", "validation accuracy"][self as usize]
    }

    pub fn is_loss(self) -> bool {
        matches!(self, Self::TrainLoss | Self::Objective | Self::ValidLoss)
    }

    pub fn of(self, method: &Method) -> f64 {
        [method.train_loss, method.objective(), method.train_accuracy, method.valid_loss, method.valid_accuracy]
            [self as usize]
    }

    /// Greater is better. What is not a number is worse than any.
    pub fn score(self, value: f64) -> f64 {
        match self {
            _ if value.is_nan() => f64::NEG_INFINITY,
            _ if self.is_loss() => -value,
            _ => value,
        }
    }
}

/// Mean and extremes over the seeds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    pub mean: f64,
    pub low: f64,
    pub high: f64,
}

impl Spread {
    /// `None` of nothing.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let values: Vec<f64> = values.into_iter().collect();
        let low = values.iter().copied().min_by(f64::total_cmp)?;
        let high = values.iter().copied().max_by(f64::total_cmp)?;
        Some(Self { mean: values.iter().sum::<f64>() / values.len() as f64, low, high })
    }
}

/// One method of one experiment.
pub struct Line<'a> {
    pub name: &'a str,
    /// With the run each comes from.
    pub methods: Vec<(&'a Run, &'a Method)>,
}

impl Line<'_> {
    pub fn is_adam(&self) -> bool {
        is_adam(self.name)
    }

    pub fn spread(&self, value: impl Fn(&Method) -> f64) -> Option<Spread> {
        Spread::of(self.methods.iter().map(|(_, method)| value(method)))
    }

    /// Over the seeds that have it.
    pub fn spread_of_some(&self, value: impl Fn(&Method) -> Option<f64>) -> Option<Spread> {
        Spread::of(self.methods.iter().filter_map(|(_, method)| value(method)))
    }

    pub fn loss_at(&self, cost: f64) -> Option<Spread> {
        Spread::of(self.methods.iter().filter_map(|(run, method)| run.loss_at(method, cost)))
    }
}

impl Experiment {
    /// Its methods, in the order of its first run.
    pub fn lines(&self) -> Vec<Line<'_>> {
        let mut lines: Vec<Line> = vec![];
        for run in &self.runs {
            for method in &run.summary.methods {
                match lines.iter_mut().find(|line| line.name == method.name) {
                    Some(line) => line.methods.push((run, method)),
                    None => lines.push(Line { name: &method.name, methods: vec![(run, method)] }),
                }
            }
        }
        lines
    }

    /// Of the seeds that have `name` beside Adam, how many are better, equal and worse than the better Adam.
    pub fn seeds(&self, name: &str, metric: Metric) -> [usize; 3] {
        let mut counts = [0; 3];
        for run in &self.runs {
            let adam = run.summary.methods.iter().filter(|method| is_adam(&method.name));
            let adam = adam.map(|method| metric.score(metric.of(method))).max_by(f64::total_cmp);
            if let (Some(adam), Some(method)) = (adam, run.method(name)) {
                counts[match metric.score(metric.of(method)).total_cmp(&adam) {
                    Ordering::Greater => 0,
                    Ordering::Equal => 1,
                    Ordering::Less => 2,
                }] += 1;
            }
        }
        counts
    }
}

impl Family {
    /// The Adams that an experiment is compared with: its own, else those of its family that minimise the same objective.
    pub fn adams<'a>(&'a self, experiment: &'a Experiment) -> Vec<Line<'a>> {
        let adams = |experiment: &'a Experiment| experiment.lines().into_iter().filter(Line::is_adam);
        let own: Vec<Line> = adams(experiment).collect();
        // The penalty, and what else than the data set's name says which data the loss is over.
        let objective = |experiment: &Experiment| {
            let identity = &experiment.runs[0].identity;
            let data = ["images", "label_noise"].map(|key| identity["protocol"][key].clone());
            (identity["config"]["l2"].as_f64().unwrap_or(0.0), data)
        };
        let alike = self.experiments.iter().filter(|other| objective(other) == objective(experiment));
        if own.is_empty() { alike.flat_map(adams).collect() } else { own }
    }

    /// Whether any of its runs has a penalty in its objective.
    pub fn is_penalised(&self) -> bool {
        let lines = self.experiments.iter().flat_map(Experiment::lines);
        lines.flat_map(|line| line.methods).any(|(_, method)| method.penalty > 0.0)
    }

    /// The cost at which the loss of every method of the experiment, and of every Adam beside it, is known.
    pub fn common_cost(&self, experiment: &Experiment) -> f64 {
        let lines = experiment.lines().into_iter().chain(self.adams(experiment));
        let cost = |line: Line| line.spread(Method::known_until).map(|cost| cost.low);
        lines.filter_map(cost).fold(f64::INFINITY, f64::min)
    }

    /// Whether somebody spent more than the others, so that the final losses are not at equal cost.
    pub fn has_unequal_costs(&self) -> bool {
        self.experiments.iter().any(|experiment| {
            let common = self.common_cost(experiment);
            let lines = experiment.lines().into_iter().chain(self.adams(experiment));
            lines.flat_map(|line| line.methods).any(|(_, method)| spends_more(method, common))
        })
    }
}

pub fn is_adam(name: &str) -> bool {
    name.starts_with("adam")
}

/// Whether it has cost more than that.
pub fn spends_more(method: &Method, cost: f64) -> bool {
    method.cost > cost && !same_cost(method.cost, cost)
}

/// To half a per cent: an epoch's cost is a sum of batches'.
pub fn same_cost(a: f64, b: f64) -> bool {
    (a - b).abs() <= 5e-3 * a.abs().max(b.abs())
}
