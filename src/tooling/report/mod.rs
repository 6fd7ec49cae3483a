//! `burn-convexity report`: any number of runs in one page, with the figures and the table of the publication.

mod gather;
mod markdown;
mod page;
mod paper;
pub mod plots;
pub mod run;

use std::path::{Path, PathBuf};
use std::{fmt, fs, io};

use clap::Args;

use gather::{Experiment, Family, Run, families};
use page::Figure;
use plots::Series;

/// Merge runs into one report.html and its plots: gradient norm against loss, loss against cost, and every method's
/// final numbers over the seeds, beside the published ones.
#[derive(Args, Clone, Debug)]
pub struct ReportArgs {
    /// Folders of runs, each with summary.json and trace.jsonl.
    #[arg(required = true, value_name = "RUN_DIR")]
    pub runs: Vec<PathBuf>,
    /// Folder for report.html and the plots.
    #[arg(long, default_value = "report", value_name = "DIR")]
    pub out: PathBuf,
    /// Replace the files of an earlier report.
    #[arg(long)]
    pub force: bool,
    /// Print the tables as Markdown instead, and write nothing.
    #[arg(long, conflicts_with_all = ["out", "force"])]
    pub markdown: bool,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A folder that is none, or not one of a run that has ended.
    #[error("{} is not the folder of a finished run: {problem}", .folder.display())]
    NotARun {
        /// As it was given.
        folder: PathBuf,
        /// What it lacks.
        problem: &'static str,
    },
    /// A folder was given twice, which would count its seed twice.
    #[error("{} is named twice", .0.display())]
    Twice(PathBuf),
    /// A file of a run cannot be read.
    #[error("cannot read {}: {source}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A `summary.json` that no run of ours wrote.
    #[error("{} is no summary of a run: {source}", .path.display())]
    Summary {
        /// The file.
        path: PathBuf,
        /// With line and column.
        source: serde_json::Error,
    },
    /// A line of `trace.jsonl` that no run of ours wrote.
    #[error("{}, line {line}, is no window of a run: {problem}", .path.display())]
    Trace {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong with the line.
        problem: String,
    },
    /// Something is in the way.
    #[error("{} is there already: --force replaces it, --out names another folder", .0.display())]
    Exists(PathBuf),
    /// A file of the report cannot be written.
    #[error("cannot write {}: {problem}", .path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        problem: String,
    },
}

/// What a report gives.
#[derive(Clone, Debug)]
pub enum Output {
    /// The page and its plots.
    Written(Written),
    /// The tables as text.
    Markdown(String),
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Written(written) => write!(f, "{written}"),
            Self::Markdown(text) => f.write_str(text.trim_end()),
        }
    }
}

/// What a report consists of.
#[derive(Clone, Debug)]
pub struct Written {
    /// The page, which holds copies of the plots and needs no other file.
    pub page: PathBuf,
    /// The plots as SVG files.
    pub plots: Vec<PathBuf>,
    /// How many runs were merged.
    pub runs: usize,
}

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let plural = |count, what| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
        let (runs, plots) = (plural(self.runs, "run"), plural(self.plots.len(), "plot"));
        write!(f, "{} holds {runs}; beside it: {plots}", self.page.display())
    }
}

/// Read the runs, then print the tables, or draw the plots and write the page.
///
/// # Errors
/// [`ReportError`] where a folder is no finished run's, or a file of the report exists or cannot be written. Nothing is
/// written unless every run could be read.
pub fn report(args: &ReportArgs) -> Result<Output, ReportError> {
    let mut seen = vec![];
    for folder in &args.runs {
        let folder = fs::canonicalize(folder).unwrap_or_else(|_| folder.clone());
        if seen.contains(&folder) {
            return Err(ReportError::Twice(folder));
        }
        seen.push(folder);
    }
    let runs: Vec<Run> = args.runs.iter().map(|folder| Run::load(folder)).collect::<Result<_, _>>()?;
    if args.markdown {
        return Ok(Output::Markdown(markdown::markdown(&families(runs))));
    }
    write(args, runs).map(Output::Written)
}

fn write(args: &ReportArgs, runs: Vec<Run>) -> Result<Written, ReportError> {
    let written = runs.len();
    let families = families(runs);
    let plots: Vec<Vec<Plot>> = families.iter().enumerate().map(|(at, family)| plots_of(family, at)).collect();

    let page = args.out.join("report.html");
    let files = plots.iter().flatten().map(|plot| args.out.join(&plot.file));
    let files: Vec<PathBuf> = files.collect();
    if let Some(path) = [&page].into_iter().chain(&files).find(|path| !args.force && path.exists()) {
        return Err(ReportError::Exists(path.clone()));
    }
    let unwritable = |path: &Path, problem: String| ReportError::Unwritable { path: path.into(), problem };
    fs::create_dir_all(&args.out).map_err(|error| unwritable(&args.out, error.to_string()))?;
    let mut figures = vec![];
    for (family, plots) in families.iter().zip(&plots) {
        let drawn = plots.iter().map(|plot| {
            let path = args.out.join(&plot.file);
            plot.draw(family, &path).map_err(|problem| unwritable(&path, problem))
        });
        figures.push(drawn.collect::<Result<Vec<Figure>, _>>()?);
    }
    fs::write(&page, page::page(&families, &figures)).map_err(|error| unwritable(&page, error.to_string()))?;
    Ok(Written { page, plots: files, runs: written })
}

/// A plot to be drawn.
struct Plot {
    file: String,
    /// Of the family's losses, or of one run's norms.
    of: Option<(usize, usize, String)>,
}

/// Loss against cost first, then the norms of each experiment's seeds.
fn plots_of(family: &Family, at: usize) -> Vec<Plot> {
    let simple = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let name: String = format!("{} {} {}", family.dataset, family.model, family.loss).chars().map(simple).collect();
    let mut plots = vec![Plot { file: format!("{}-{name}-loss-against-cost.svg", at + 1), of: None }];
    for (e, experiment) in family.experiments.iter().enumerate() {
        for (r, run) in experiment.runs.iter().enumerate() {
            for method in watched(run) {
                let file = format!("{}-{name}-norm-against-loss-{}.svg", at + 1, plots.len());
                plots.push(Plot { file, of: Some((e, r, method)) });
            }
        }
    }
    plots
}

/// The methods whose gradient norm is of interest: those that may swap, or Adam where it is alone.
fn watched(run: &Run) -> Vec<String> {
    let names = || run.summary.methods.iter().map(|method| method.name.clone());
    let ours: Vec<String> = names().filter(|name| !gather::is_adam(name)).collect();
    if ours.is_empty() { names().take(1).collect() } else { ours }
}

impl Plot {
    fn draw(&self, family: &Family, path: &Path) -> Result<Figure, String> {
        let Family { model, dataset, loss, .. } = family;
        let of_family = format!("{model}, {dataset}, {loss}");
        let caption = match &self.of {
            None => {
                plots::losses_against_cost(path, &of_family, &series(family)).map_err(|error| error.to_string())?;
                "Train loss against cost (as the publication's figure 6); a loss of 0 has no place on the axis.".into()
            }
            Some((experiment, run, method)) => {
                let experiment = &family.experiments[*experiment];
                let run = &experiment.runs[*run];
                let title = format!("{of_family}, seed {}", run.summary.seed);
                plots::norm_against_loss(path, &title, run.rows(method)).map_err(|error| error.to_string())?;
                let method = named(method, &experiment.label);
                let seed = run.summary.seed;
                format!("Gradient norm against train loss (as the publication's figure 5): {method}, seed {seed}.")
            }
        };
        let svg = fs::read_to_string(path).map_err(|error| error.to_string())?;
        Ok(Figure { svg, caption, first: self.of.as_ref().is_none_or(|(_, run, _)| *run == 0) })
    }
}

/// The method as a reader would call it, with its experiment where there are several.
fn named(method: &str, experiment: &str) -> String {
    let method = method.replace('_', " ");
    if experiment.is_empty() { method } else { format!("{method}, {experiment}") }
}

/// Every method of every experiment, one colour each; a method that ran alike in all of them is drawn once.
fn series(family: &Family) -> Vec<Series<'_>> {
    let traces = |experiment: &'_ Experiment, name: &str| -> Vec<Vec<(u64, u64)>> {
        let bits =
            |run: &Run| run.rows(name).iter().map(|row| (row.cost.to_bits(), row.train_loss.to_bits())).collect();
        experiment.runs.iter().filter(|run| run.method(name).is_some()).map(bits).collect()
    };
    let mut series: Vec<Series> = vec![];
    for (at, experiment) in family.experiments.iter().enumerate() {
        for line in experiment.lines() {
            let others = || family.experiments.iter().filter(|other| other.lines().iter().any(|o| o.name == line.name));
            let ours = traces(experiment, line.name);
            let shared = others().all(|other| traces(other, line.name) == ours);
            if shared && family.experiments[..at].iter().any(|before| traces(before, line.name) == ours) {
                continue;
            }
            let label = named(line.name, if shared && line.is_adam() { "" } else { &experiment.label });
            series.push(Series { label, traces: line.methods.iter().map(|(run, _)| run.rows(line.name)).collect() });
        }
    }
    series
}

#[cfg(test)]
mod tests {
    use super::run::{Counters, Method, Phase, Summary, Swap, TraceRow, TraceWriter};
    use super::*;
    use serde_json::{Value, json};
    use tempfile::TempDir;

    use crate::config::ConvexitySwitchingConfig;

    /// A method that ended with this loss, and as many windows as its cost.
    fn method(name: &str, train_loss: f64, valid_accuracy: f64, cost: f64) -> Method {
        Method {
            name: name.into(),
            epochs: 4,
            cost,
            seconds: 1.0,
            train_loss,
            penalty: 0.0,
            train_accuracy: 1.0,
            valid_loss: 0.5,
            valid_accuracy,
            cost_to_adam: None,
            swap: (name != "adam").then(|| Swap { window: 2, cost: 2.0, reason: "past <its> peak".into() }),
            events: vec![json!({ "event": "swap", "window": 2, "cost": 2.0, "reason": "past <its> peak" })],
            counters: Counters::default(),
        }
    }

    /// In `root/name`, a run with Adam at a loss of 0.01, and ours at `ours`.
    fn run(root: &TempDir, name: &str, seed: u64, config: Value, ours: f64) -> PathBuf {
        let folder = root.path().join(name);
        fs::create_dir_all(&folder).unwrap();
        let summary = Summary {
            model: "vgg5".into(),
            dataset: "mnist".into(),
            loss: "mse".into(),
            parameters: 121_994,
            seed,
            device: "flex".into(),
            config,
            protocol: Value::Null,
            methods: vec![method("adam", 0.01, 0.9, 4.0), method("convexity_switching", ours, 0.8, 8.0)],
        };
        summary.save(&folder.join("summary.json")).unwrap();
        let mut trace = TraceWriter::create(&folder.join("trace.jsonl")).unwrap();
        for method in &summary.methods {
            for window in 1..=method.cost as usize {
                let convex = window > 2 && method.name != "adam";
                let row = TraceRow {
                    method: method.name.clone(),
                    window,
                    epoch: window,
                    cost: window as f64,
                    phase: if convex { Phase::Convex } else { Phase::NonConvex },
                    batch_norm: Some(1.0),
                    mean_norm: None,
                    train_loss: method.train_loss * (9 - window) as f64,
                    valid_loss: None,
                    step_length: None,
                    seconds: 0.1,
                };
                trace.write(&row).unwrap();
            }
        }
        folder
    }

    fn args(root: &TempDir, runs: &[PathBuf]) -> ReportArgs {
        ReportArgs { runs: runs.to_vec(), out: root.path().join("out"), force: false, markdown: false }
    }

    #[test]
    fn runs_that_differ_in_the_seed_alone_are_one_experiment() {
        let root = tempfile::tempdir().unwrap();
        let l_bfgs = || complete(json!({ "direction": { "kind": "l_bfgs", "memory": 50 }, "metric": "inner" }));
        let cg =
            complete(json!({ "direction": { "kind": "conjugate_gradient", "beta": "dai_yuan" }, "metric": "inner" }));
        let folders = [
            run(&root, "b", 1, l_bfgs(), 3e-3),
            run(&root, "cg", 0, cg, 0.5),
            run(&root, "a", 0, l_bfgs(), 1e-3),
            run(&root, "again", 0, l_bfgs(), 1e-3),
        ];
        let families = families(folders.iter().map(|folder| Run::load(folder).unwrap()).collect());
        assert_eq!(families.len(), 1);
        let experiments = &families[0].experiments;
        let seeds = |at: usize| experiments[at].runs.iter().map(|run| run.summary.seed).collect::<Vec<_>>();
        assert_eq!([seeds(0), seeds(1), seeds(2)], [vec![0, 1], vec![0], vec![0]]);
        let folder = |name: &str| root.path().join(name).display().to_string();
        assert_eq!(experiments[0].label, format!("direction.memory 50, {}", folder("a")));
        assert_eq!(experiments[1].label, "direction conjugate_gradient, direction.beta dai_yuan");
        assert_eq!(experiments[2].label, format!("direction.memory 50, {}", folder("again")));

        let lines = experiments[0].lines();
        let loss = lines[1].spread(|method| method.train_loss).unwrap();
        assert_eq!((loss.mean, loss.low, loss.high), (2e-3, 1e-3, 3e-3));
        // Adam has spent 4, ours 8: after 4 windows of 8 its loss was five times the last.
        assert_eq!(families[0].common_cost(&experiments[0]), 4.0);
        assert_eq!(lines[1].loss_at(4.0).unwrap().high, 5.0 * 3e-3);
        assert_eq!(lines[0].loss_at(4.0).unwrap().mean, 0.01);
    }

    #[test]
    fn a_method_that_has_converged_counts_as_if_it_had_gone_on() {
        let root = tempfile::tempdir().unwrap();
        let folder = run(&root, "one", 0, json!({}), 1e-3);
        // Adam goes on for 16.
        let compared = |adam: Value, ours: Value, cost: f64| {
            let path = folder.join("summary.json");
            let mut summary: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
            for (at, events, cost) in [(0, adam, 16.0), (1, ours, cost)] {
                (summary["methods"][at]["events"], summary["methods"][at]["cost"]) = (events, json!(cost));
            }
            fs::write(&path, summary.to_string()).unwrap();
            let family = families(vec![Run::load(&folder).unwrap()]).remove(0);
            (family.common_cost(&family.experiments[0]), family.has_unequal_costs())
        };
        let converged = json!({ "event": "converged", "reason": "the loss is 0", "cost": 8.0 });
        let behind = |event: &str| json!([converged, { "event": event, "cost": 9.0 }]);
        assert_eq!(compared(json!([]), json!([{ "event": "swap", "cost": 2.0 }, converged]), 8.0), (16.0, false));
        assert_eq!(compared(json!([]), behind("resumed"), 8.0), (16.0, false));
        assert_eq!(compared(json!([]), behind("hand_back"), 8.0), (8.0, true));
        // That it stands still says nothing of an Adam that ended before it, and nobody spends more than all that stand still.
        assert_eq!(compared(json!([]), json!([converged]), 20.0), (16.0, true));
        assert_eq!(compared(json!([converged]), json!([converged]), 20.0), (f64::INFINITY, false));
    }

    /// As `summary.json` has it: with every key.
    fn complete(config: Value) -> Value {
        json!(serde_json::from_value::<ConvexitySwitchingConfig>(config).unwrap())
    }

    fn labels<const N: usize>(configs: [Value; N]) -> Vec<String> {
        let root = tempfile::tempdir().unwrap();
        let run =
            |(at, config): (usize, &Value)| Run::load(&run(&root, &at.to_string(), 0, complete(config.clone()), 1e-3));
        let runs = configs.iter().enumerate().map(|run_of| run(run_of).unwrap()).collect();
        families(runs).remove(0).experiments.into_iter().map(|experiment| experiment.label).collect()
    }

    #[test]
    fn an_experiment_is_named_by_what_is_not_as_by_default_and_not_in_all() {
        let inner = json!({ "metric": "inner", "l2": 1e-4 });
        let cg = json!({ "direction": { "kind": "conjugate_gradient" }, "line_search": { "kind": "hager_zhang", "sigma": 0.3 }, "l2": 1e-4 });
        assert_eq!(
            labels([json!({ "l2": 1e-4 }), inner, cg]),
            ["", "metric inner", "direction conjugate_gradient, line_search.sigma 0.3"]
        );
        // Of another kind, what is not as by default there.
        let at = |window: u64| json!({ "detector": { "kind": "at_window", "window": window } });
        assert_eq!(labels([json!({}), at(30)]), ["", "detector at_window, detector.window 30"]);
        assert_eq!(labels([at(30), at(50)]), ["detector.window 30", "detector.window 50"]);
    }

    #[test]
    fn what_differs_within_a_list_is_named_by_the_kind_it_is_in() {
        let all = |of: Value| json!({ "detector": { "kind": "all", "of": of } });
        let slope = |rate: f64| json!({ "kind": "loss_slope", "rate": rate });
        assert_eq!(
            labels([all(json!([slope(0.05)])), all(json!([slope(0.03)]))]),
            ["loss_slope.rate 0.05", "loss_slope.rate 0.03"]
        );
        let default = |rate: f64| json!([{ "kind": "gradient_norm_peak" }, slope(rate), { "kind": "loss_level" }]);
        assert_eq!(labels([all(default(0.1)), all(default(0.05))]), ["", "loss_slope.rate 0.05"]);
        assert_eq!(
            labels([all(json!([{ "kind": "never" }])), all(json!([{ "kind": "never" }, slope(1.0)]))]),
            ["detector.of never", "detector.of never + loss_slope, loss_slope.rate 1.0"]
        );
    }

    #[test]
    fn a_report_is_one_page_that_says_where_the_method_wins_and_where_it_loses() {
        let root = tempfile::tempdir().unwrap();
        let runs = [run(&root, "a", 0, json!({}), 1e-3), run(&root, "b", 1, json!({}), 0.05)];
        let Output::Written(written) = report(&args(&root, &runs)).unwrap() else { panic!("no page") };
        assert_eq!((written.runs, written.plots.len()), (2, 3));
        assert!(written.plots.iter().all(|plot| plot.is_file()));
        let page = fs::read_to_string(&written.page).unwrap();
        assert!(page.contains(
            "convexity switching against the better Adam: equal in train accuracy (2 of 2 seeds), validation loss \
             (2 of 2 seeds); worse in train loss (1 of 2 seeds), validation accuracy (2 of 2 seeds)."
        ));
        // Both lines of the publication, and epochs and cost beside ours.
        assert!(
            page.contains("<td>300 + 700</td><td>not stated</td><td></td><td>0.0001</td><td>1.000</td><td>0.0011</td>")
        );
        assert!(page.contains("published: Adam</td><td></td><td>1000</td><td>1000</td>"));
        assert!(page.contains("past &lt;its&gt; peak") && !page.contains("<its>"));
        // It needs no other file.
        assert_eq!(page.matches("<svg").count(), 3);
        assert!(!page.contains("src=") && !page.contains("href="));
    }

    #[test]
    fn as_markdown_a_report_is_a_line_for_each_method_and_writes_nothing() {
        let root = tempfile::tempdir().unwrap();
        let runs = [run(&root, "a", 0, json!({}), 1e-3), run(&root, "b", 1, json!({}), 0.1)];
        let text = report(&ReportArgs { markdown: true, ..args(&root, &runs) }).unwrap().to_string();
        // Geometric means: of 1e-3 and 0.1, and of the two over Adam's 0.01, which the first trace is below from the start.
        let ours =
            "| convexity switching | 2 | 8 | 0.0100 | 1.00e0 | 1.0000 | 0.5000 | 0.8000 | 1 (1 of 2 seeds) | 2 |";
        assert!(text.starts_with("mnist, vgg5 (121,994 parameters), mse:\n\n| method |"), "{text}");
        assert!(text.ends_with(ours), "{text}");
        assert!(!root.path().join("out").exists());
    }

    #[test]
    fn a_run_without_an_adam_is_compared_with_that_of_its_own_objective() {
        let root = tempfile::tempdir().unwrap();
        let config =
            |l2: f64, memory: u64| complete(json!({ "l2": l2, "direction": { "kind": "l_bfgs", "memory": memory } }));
        let runs = [
            (0.0, 100, 1e-3, None),
            (1e-4, 100, 4e-3, None),
            (1e-4, 50, 5e-3, None),
            (1e-3, 50, 6e-3, None),
            (1e-4, 50, 7e-3, Some("label_noise")),
            (1e-4, 50, 8e-3, Some("images")),
            (1e-4, 50, 9e-3, Some("batch_size")),
        ];
        let runs: Vec<PathBuf> = runs
            .into_iter()
            .enumerate()
            .map(|(at, (l2, memory, loss, particular))| {
                let folder = run(&root, &at.to_string(), 0, config(l2, memory), loss);
                let path = folder.join("summary.json");
                let mut summary: Summary = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
                if l2 > 0.0 {
                    summary.methods[0].train_loss = 0.05;
                }
                if memory == 50 {
                    summary.methods.remove(0);
                }
                summary.protocol = particular.map_or(Value::Null, |key| json!({ key: 0.5 }));
                summary.save(&path).unwrap();
                folder
            })
            .collect();
        let text = report(&ReportArgs { markdown: true, ..args(&root, &runs) }).unwrap().to_string();
        let ratios: Vec<(&str, &str)> = text
            .lines()
            .map(|line| line.split(" | ").collect::<Vec<_>>())
            .filter(|cells| cells[0].starts_with("| convexity"))
            .map(|cells| (cells[3], cells[4]))
            .collect();
        // Of another penalty or on other data there is no Adam; one in batches of another size counts.
        let expected = [
            ("0.0010", "1.00e-1"),
            ("0.0040", "8.00e-2"),
            ("0.0050", "1.00e-1"),
            ("0.0060", "-"),
            ("0.0070", "-"),
            ("0.0080", "-"),
            ("0.0090", "1.80e-1"),
        ];
        assert_eq!(ratios, expected, "{text}");
    }

    #[test]
    fn a_penalty_adds_the_objective_to_the_table() {
        let root = tempfile::tempdir().unwrap();
        let folder = run(&root, "a", 0, json!({}), 1e-3);
        let path = folder.join("summary.json");
        let mut summary: Summary = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        let table = |summary: &Summary| {
            summary.save(&path).unwrap();
            let runs = std::slice::from_ref(&folder);
            report(&ReportArgs { markdown: true, ..args(&root, runs) }).unwrap().to_string()
        };
        assert!(!table(&summary).contains("objective"));
        // 0.01 and 0.02 beside 0.001 and 0.005; at twice the cost there is nothing to compare with.
        (summary.methods[0].penalty, summary.methods[1].penalty) = (0.02, 0.005);
        assert!(table(&summary).contains("| 0.0010 | 1.00e-1 | 0.0060 | - | 1.0000"));
        summary.methods[1].cost = 4.0;
        let text = table(&summary);
        assert!(
            text.contains("| train loss | of the better Adam's | objective | objective of the better Adam's | train")
        );
        assert!(text.contains("| adam | 1 | 4 | 0.0100 | - | 0.0300 | - | 1.0000"), "{text}");
        assert!(text.contains("| 0.0010 | 1.00e-1 | 0.0060 | 2.00e-1 | 1.0000"), "{text}");
        // On the page too, where every row of the table has as many cells as its head.
        let page = || {
            let args = ReportArgs { force: true, ..args(&root, std::slice::from_ref(&folder)) };
            report(&args).unwrap();
            fs::read_to_string(args.out.join("report.html")).unwrap()
        };
        let text = page();
        assert!(text.contains("better in train loss, objective"), "{text}");
        let table = text.split("</table>").next().unwrap();
        let rows = table.split("<tr").filter(|row| row.contains("<td>"));
        rows.for_each(|row| assert_eq!(row.matches("<td").count(), table.matches("<th>").count(), "{row}"));
        (summary.methods[0].penalty, summary.methods[1].penalty) = (0.0, 0.0);
        summary.save(&path).unwrap();
        assert!(!page().contains("<th>objective</th>") && text.contains("<th>objective</th>"));
    }

    #[test]
    fn nothing_is_overwritten_unless_forced() {
        let root = tempfile::tempdir().unwrap();
        let args = args(&root, &[run(&root, "a", 0, json!({}), 1e-3)]);
        fs::create_dir(&args.out).unwrap();
        fs::write(args.out.join("report.html"), "mine").unwrap();
        let error = report(&args).unwrap_err();
        assert!(matches!(&error, ReportError::Exists(path) if path.ends_with("report.html")), "{error}");
        assert_eq!(fs::read_dir(&args.out).unwrap().count(), 1);
        report(&ReportArgs { force: true, ..args.clone() }).unwrap();
        assert_eq!(fs::read_dir(&args.out).unwrap().count(), 3);
    }

    #[test]
    fn folders_that_are_no_finished_runs_are_refused_by_name() {
        let root = tempfile::tempdir().unwrap();
        let folder = run(&root, "a", 0, json!({}), 1e-3);
        let message = |runs: &[PathBuf]| {
            let message = report(&args(&root, runs)).unwrap_err().to_string();
            assert!(!root.path().join("out").exists());
            message.replace(&root.path().display().to_string(), "")
        };
        assert!(message(&[root.path().join("none")]).ends_with("a finished run: there is no such folder"));
        assert!(message(&[root.path().into()]).ends_with("a finished run: it has no summary.json"));
        assert!(message(&[folder.clone(), folder.join("../a")]).ends_with("is named twice"));

        let [summary, trace] = ["summary.json", "trace.jsonl"].map(|name| folder.join(name));
        let rows = fs::read_to_string(&trace).unwrap();
        fs::write(&trace, &rows[..rows.len() - 9]).unwrap();
        let cut = message(std::slice::from_ref(&folder));
        assert!(cut.starts_with("/a/trace.jsonl, line 12, is no window of a run: EOF"), "{cut}");
        fs::write(&trace, "").unwrap();
        assert!(message(std::slice::from_ref(&folder)).contains("lacks a method"));
        fs::write(&summary, "{\"name\": \"some other program's\"}").unwrap();
        let foreign = message(std::slice::from_ref(&folder));
        assert!(foreign.starts_with("/a/summary.json is no summary of a run: missing field `model`"), "{foreign}");
        fs::remove_file(&summary).unwrap();
        assert!(message(&[folder]).contains("it goes on, or was stopped"));
    }
}
