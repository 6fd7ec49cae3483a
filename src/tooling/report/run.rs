//! What a run leaves behind: `trace.jsonl`, an object a window as the run goes on; `summary.json`,
//! whose keys other programs rely on; and the table that is printed at the end.
//!
//! The examples, which write it, include this file and `plots.rs` as modules of their own: it needs nothing from the
//! library, and the library's users need none of it.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

/// One window of one method, a line of `trace.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TraceRow {
    /// As in [`Method::name`].
    pub method: String,
    /// The detector's window, counted from 1.
    pub window: usize,
    /// Counted from 1; for the published protocols an iteration of the convex phase is one, whatever it costs.
    pub epoch: usize,
    /// Gradient passes over the training set so far.
    pub cost: f64,
    /// At the window's end.
    pub phase: Phase,
    /// Mean of the norms of the batches' gradients; null in the convex phase, which computes no norm of a batch.
    pub batch_norm: Option<f64>,
    /// Norm of the mean of the window's gradients.
    pub mean_norm: Option<f64>,
    /// The mean over the window's batches; in the convex phase, at the accepted point. Not a number is null in the file.
    #[serde(deserialize_with = "null_is_nan")]
    pub train_loss: f64,
    /// At the epoch's end, the mean over the batches of the validation set, where the method validates.
    pub valid_loss: Option<f64>,
    /// In the convex phase, the step that the last line search accepted.
    pub step_length: Option<f64>,
    /// Since the method began.
    pub seconds: f64,
}

/// Which of its two methods the optimizer was at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The inner optimizer.
    NonConvex,
    /// The second-order method.
    Convex,
}

/// Writes `trace.jsonl`, each row at once, so that a run can be watched and a killed one leaves
/// what it had.
pub struct TraceWriter(BufWriter<File>);

impl TraceWriter {
    /// # Errors
    /// Where the file cannot be made.
    pub fn create(path: &Path) -> io::Result<Self> {
        Ok(Self(BufWriter::new(File::create(path)?)))
    }

    /// # Errors
    /// Where the file cannot be written.
    pub fn write(&mut self, row: &TraceRow) -> io::Result<()> {
        serde_json::to_writer(&mut self.0, row)?;
        writeln!(self.0)?;
        self.0.flush()
    }
}

/// `summary.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The model's name.
    pub model: String,
    /// The data set's name.
    pub dataset: String,
    /// What was minimised: `cross-entropy` or `mse`.
    pub loss: String,
    /// How many the model has.
    pub parameters: usize,
    /// Of the initial parameters and the order of the data.
    pub seed: u64,
    /// Where it was computed.
    pub device: String,
    /// The switching optimizer's configuration, complete.
    pub config: Value,
    /// What else tells one experiment from another: protocol, images, label noise, batch size, learning rate.
    #[serde(default)]
    pub protocol: Value,
    /// The methods, in the order in which they ran.
    pub methods: Vec<Method>,
}

/// How one method ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Method {
    /// `convexity_switching`, `adam`, `adam_cosine`, ...
    pub name: String,
    /// Of the training data.
    pub epochs: usize,
    /// Gradient passes over the training set.
    pub cost: f64,
    /// Of wall-clock time, evaluations on the validation set included.
    pub seconds: f64,
    /// Of the final model, over the whole training set. A loss that is not a number is null in the file.
    #[serde(deserialize_with = "null_is_nan")]
    pub train_loss: f64,
    /// `l2 / 2` times the squared norm of the final parameters, which makes the objective with the train loss; 0 without
    /// `l2`.
    #[serde(default, deserialize_with = "null_is_nan")]
    pub penalty: f64,
    /// Share of right answers of the final model on the training set.
    pub train_accuracy: f64,
    /// Of the final model, over the whole validation set.
    #[serde(deserialize_with = "null_is_nan")]
    pub valid_loss: f64,
    /// Share of right answers of the final model on the validation set.
    pub valid_accuracy: f64,
    /// The cost at which the train loss first reached the better of Adam's two final losses.
    pub cost_to_adam: Option<f64>,
    /// The first change to the convex phase, where there was one.
    pub swap: Option<Swap>,
    /// Everything that the optimizer reported, each with its `event`, `window` and `cost`.
    pub events: Vec<Value>,
    /// What was done how often.
    pub counters: Counters,
}

/// The first change to the convex phase.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Swap {
    /// The window at whose end it came.
    pub window: usize,
    /// Gradient passes over the training set until then.
    pub cost: f64,
    /// The detector's, in words.
    pub reason: String,
}

/// What was done how often.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Optimizer steps.
    pub passes: usize,
    /// Evaluations of the objective, with a gradient or without.
    pub loss_evaluations: usize,
    /// Evaluations of the gradient.
    pub gradient_evaluations: usize,
    /// Of the convex phase: line searches that ended.
    pub iterations: usize,
    /// From steepest descent.
    pub restarts: usize,
}

/// Write a file under another name and give it its own when it is whole, so that a kill leaves no torn one.
///
/// # Errors
/// Where the file cannot be written.
pub fn write_whole(path: &Path, text: &str) -> io::Result<()> {
    let new = path.with_extension("new");
    fs::write(&new, text)?;
    fs::rename(new, path)
}

impl Method {
    /// What was minimised: the train loss with the penalty.
    pub fn objective(&self) -> f64 {
        self.train_loss + self.penalty
    }

    /// The cost up to which its end is known: without limit where it has converged, as it would stand still.
    pub fn known_until(&self) -> f64 {
        if self.converged().is_some() { f64::INFINITY } else { self.cost }
    }

    /// That it has converged in the phase it ended in.
    fn converged(&self) -> Option<&Value> {
        let of_a_phase = |event: &&Value| ["swap", "converged", "hand_back"].iter().any(|kind| event["event"] == *kind);
        self.events.iter().rfind(of_a_phase).filter(|last| last["event"] == "converged")
    }
}

/// JSON has no number for a loss that is not one, so it is written as null.
fn null_is_nan<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

impl Summary {
    /// # Errors
    /// Where the file cannot be written.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        write_whole(path, &(serde_json::to_string_pretty(self)? + "\n"))
    }

    /// Fills in every method's `cost_to_adam` from the trace, where the run had an Adam to compare
    /// with.
    pub fn set_cost_to_adam(&mut self, trace: &[TraceRow]) {
        let adam = self.methods.iter().filter(|method| method.name.starts_with("adam"));
        let Some(goal) = adam.map(|method| method.train_loss).min_by(f64::total_cmp) else {
            return;
        };
        for method in &mut self.methods {
            let rows = trace.iter().filter(|row| row.method == method.name);
            method.cost_to_adam = rows
                .map(|row| (row.cost, row.train_loss))
                .chain([(method.cost, method.train_loss)])
                .find(|&(_, loss)| loss <= goal)
                .map(|(cost, _)| cost);
        }
    }

    /// The methods side by side, for a terminal, and below them why they swapped.
    pub fn table(&self) -> String {
        let header = [
            "method",
            "epochs",
            "cost",
            "seconds",
            "train loss",
            "train acc",
            "valid loss",
            "valid acc",
            "cost to Adam",
            "swap",
        ];
        let mut rows = vec![header.map(String::from)];
        rows.extend(self.methods.iter().map(|method| {
            [
                method.name.replace('_', " "),
                method.epochs.to_string(),
                format!("{:.1}", method.cost),
                format!("{:.1}", method.seconds),
                format!("{:.2e}", method.train_loss),
                format!("{:.4}", method.train_accuracy),
                format!("{:.4}", method.valid_loss),
                format!("{:.4}", method.valid_accuracy),
                method.cost_to_adam.map_or("-".into(), |cost| format!("{cost:.1}")),
                method
                    .swap
                    .as_ref()
                    .map_or("-".into(), |swap| format!("window {}, cost {:.1}", swap.window, swap.cost)),
            ]
        }));
        let why = self.methods.iter().filter_map(|method| {
            Some(format!("\n{}, why it swapped: {}\n", method.name.replace('_', " "), method.swap.as_ref()?.reason))
        });
        let stands = self.methods.iter().filter_map(|method| {
            let reason = method.converged()?["reason"].as_str()?;
            Some(format!("\n{}, why it ended: converged, {reason}\n", method.name.replace('_', " ")))
        });
        align(&rows) + &why.chain(stands).collect::<String>()
    }
}

/// Columns aligned, the first and the last to the left, the numbers between them to the right, and
/// a rule under the header.
fn align<const COLUMNS: usize>(rows: &[[String; COLUMNS]]) -> String {
    let length = |cell: &String| cell.chars().count();
    let width = |column: usize| rows.iter().map(|row| length(&row[column])).max().unwrap_or(0);
    let widths: [usize; COLUMNS] = std::array::from_fn(width);
    let line = |row: &[String; COLUMNS]| -> String {
        let cells = row.iter().zip(widths).enumerate().map(|(column, (cell, width))| match column {
            0 => format!("{cell:<width$}"),
            _ if column == COLUMNS - 1 => cell.clone(),
            _ => format!("{cell:>width$}"),
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    let rule = widths.map(|width| "-".repeat(width));
    let (header, body) = rows.split_first().expect("a table has a header");
    [header, &rule].into_iter().chain(body).map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn row(method: &str, cost: f64, train_loss: f64) -> TraceRow {
        TraceRow {
            method: method.into(),
            window: cost as usize,
            epoch: cost as usize,
            cost,
            phase: Phase::NonConvex,
            batch_norm: Some(1.0),
            mean_norm: None,
            train_loss,
            valid_loss: None,
            step_length: None,
            seconds: 0.5,
        }
    }

    fn method(name: &str, cost: f64, train_loss: f64) -> Method {
        Method {
            name: name.into(),
            epochs: 2,
            cost,
            seconds: 1.0,
            train_loss,
            penalty: 0.0,
            train_accuracy: 1.0,
            valid_loss: 0.5,
            valid_accuracy: 0.9,
            cost_to_adam: None,
            swap: None,
            events: vec![],
            counters: Counters::default(),
        }
    }

    fn summary() -> Summary {
        let swap = Swap { window: 1, cost: 1.0, reason: "norm fell to 0.89 of its peak".into() };
        Summary {
            model: "vit-nomlp".into(),
            dataset: "digits".into(),
            loss: "cross-entropy".into(),
            parameters: 10,
            seed: 0,
            device: "flex".into(),
            config: json!({}),
            protocol: Value::Null,
            methods: vec![
                Method { swap: Some(swap), ..method("convexity_switching", 2.0, 1e-9) },
                method("adam", 2.0, 1e-3),
                method("adam_cosine", 2.0, 2e-3),
            ],
        }
    }

    #[test]
    fn the_summary_has_the_keys_that_other_programs_rely_on() {
        let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
        let value = serde_json::to_value(summary()).unwrap();
        assert_eq!(keys(&value), sorted("model dataset loss parameters seed device config protocol methods"));
        let method = &value["methods"][0];
        let expected = "name epochs cost seconds train_loss penalty train_accuracy valid_loss valid_accuracy cost_to_adam \
            swap events counters";
        assert_eq!(keys(method), sorted(expected));
        assert_eq!(keys(&method["swap"]), sorted("window cost reason"));
        let expected = "passes loss_evaluations gradient_evaluations iterations restarts";
        assert_eq!(keys(&method["counters"]), sorted(expected));
        assert!(value["methods"][1]["swap"].is_null());
    }

    fn sorted(keys: &str) -> String {
        let mut keys: Vec<&str> = keys.split(' ').collect();
        keys.sort();
        keys.join(" ")
    }

    #[test]
    fn a_row_of_the_trace_is_one_line_that_reads_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("trace.jsonl");
        let rows = [row("adam", 1.0, 0.1), row("adam", 2.0, 0.01)];
        let mut trace = TraceWriter::create(&path).unwrap();
        rows.iter().for_each(|row| trace.write(row).unwrap());
        // Read while the writer is still open: each row is there at once.
        let text = std::fs::read_to_string(&path).unwrap();
        let back: Vec<TraceRow> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(back, rows);
        assert!(text.contains(r#""phase":"non_convex""#));
    }

    #[test]
    fn a_run_that_diverged_reads_back() {
        let text = serde_json::to_string(&row("adam", 1.0, f64::NAN)).unwrap();
        assert!(text.contains(r#""train_loss":null"#));
        assert!(serde_json::from_str::<TraceRow>(&text).unwrap().train_loss.is_nan());
        let text = serde_json::to_string(&method("adam", 1.0, f64::INFINITY)).unwrap();
        assert!(serde_json::from_str::<Method>(&text).unwrap().train_loss.is_nan());
    }

    #[test]
    fn the_cost_to_adam_is_the_first_at_which_the_better_adam_is_reached() {
        let mut summary = summary();
        let trace = [row("convexity_switching", 1.0, 0.5), row("convexity_switching", 1.5, 1e-3)];
        summary.set_cost_to_adam(&trace);
        let costs: Vec<_> = summary.methods.iter().map(|method| method.cost_to_adam).collect();
        assert_eq!(costs, [Some(1.5), Some(2.0), None]);

        summary.methods.truncate(1);
        summary.methods[0].cost_to_adam = None;
        summary.set_cost_to_adam(&trace);
        assert_eq!(summary.methods[0].cost_to_adam, None, "there is no Adam to compare with");
    }

    #[test]
    fn the_table_aligns_its_columns() {
        let table = summary().table();
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines.len(), 7);
        let end = |line: &str, word: &str| line.find(word).unwrap() + word.len();
        assert_eq!(end(lines[0], "train loss"), end(lines[2], "1.00e-9"));
        assert_eq!(end(lines[0], "train loss"), end(lines[4], "2.00e-3"));
        assert!(lines[2].ends_with("window 1, cost 1.0"));
        assert!(lines[3].ends_with('-'));
        assert_eq!(lines[6], "convexity switching, why it swapped: norm fell to 0.89 of its peak");
    }
}
