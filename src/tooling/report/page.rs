//! The report as one HTML page that needs no other file.

use std::fmt::Write;

use serde_json::Value;

use super::gather::{Experiment, Family, Line, Metric, Spread, spends_more};
use super::named;
use super::paper::{Numbers, published};

/// A plot, ready for the page.
pub struct Figure {
    pub svg: String,
    pub caption: String,
    /// Shown at once; the others on demand.
    pub first: bool,
}

const STYLE: &str = "
:root { color-scheme: light; }
body { font: 15px/1.45 system-ui, sans-serif; color: #1a1a1a; background: #fff; margin: 2rem auto; max-width: 84rem; padding: 0 1rem; }
h1, h2 { line-height: 1.2; } h2 { margin-top: 2.5rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 14px; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .45rem; text-align: right; vertical-align: top; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
thead th { border-bottom: 2px solid #444; vertical-align: bottom; white-space: normal; }
.family th { background: #e9eef4; padding-top: .4rem; border-top: 1px solid #8aa; }
.variant td { font-style: italic; white-space: normal; }
.said td { white-space: normal; color: #333; padding-bottom: .6rem; }
.paper td { color: #6b4a00; background: #fdf7e8; }
.better { color: #00634a; font-weight: 600; } .better::after { content: ' \\25B2'; }
.worse { color: #a03a00; font-weight: 600; } .worse::after { content: ' \\25BC'; }
small { display: block; color: #555; font-weight: normal; }
figure { margin: 1.2rem 0; } figure svg { max-width: 100%; height: auto; } figcaption { color: #444; }
.words { text-align: left; white-space: normal; }
pre { background: #f5f5f5; padding: .6rem; overflow-x: auto; font-size: 13px; }
";

/// The page of `families` and the figures of each.
pub fn page(families: &[Family], figures: &[Vec<Figure>]) -> String {
    let runs: usize =
        families.iter().flat_map(|family| &family.experiments).map(|experiment| experiment.runs.len()).sum();
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>Convexity switching: report</title>\n<style>{STYLE}</style>\n</head>\n<body>\n\
         <h1>Convexity switching: {runs} run{}</h1>\n{}",
        if runs == 1 { "" } else { "s" },
        table(families)
    );
    for (family, figures) in families.iter().zip(figures) {
        page += &format!("<h2>{}</h2>\n", escaped(&title(family)));
        let show = |figure: &Figure| {
            format!("<figure>{}<figcaption>{}</figcaption></figure>\n", svg(&figure.svg), escaped(&figure.caption))
        };
        page.extend(figures.iter().filter(|figure| figure.first).map(show));
        let others: String = figures.iter().filter(|figure| !figure.first).map(show).collect();
        if !others.is_empty() {
            page += &format!("<details><summary>The other seeds' gradient norms</summary>\n{others}</details>\n");
        }
        page += &runs_of(family);
    }
    page + "</body>\n</html>\n"
}

/// Without the declaration that only a file of its own may have.
fn svg(text: &str) -> &str {
    text.find("<svg").map_or(text, |start| &text[start..])
}

fn title(family: &Family) -> String {
    format!("{}, {}, {}", family.dataset, family.model, family.loss)
}

/// Every method of every run, over the seeds, with the published numbers under them.
fn table(families: &[Family]) -> String {
    let unequal = families.iter().any(Family::has_unequal_costs);
    let penalised = families.iter().any(Family::is_penalised);
    let mut headers = vec!["method", "seeds", "epochs", "cost", "seconds"];
    headers.extend(Metric::all(penalised).map(Metric::name));
    headers.extend(unequal.then_some("train loss at equal cost"));
    headers.extend(["cost to Adam\u{2019}s train loss", "cost at the swap"]);
    let columns = headers.len();
    let mut table =
        format!("<div class=\"wide\"><table>\n<thead><tr><th>{}</th></tr></thead>\n", headers.join("</th><th>"));
    let whole = |table: &mut String, class: &str, cell: &str, text: &str| {
        let text = escaped(text);
        *table += &format!("<tr class=\"{class}\"><{cell} colspan=\"{columns}\">{text}</{cell}></tr>\n");
    };
    for family in families {
        let parameters = thousands(family.parameters);
        table += "<tbody>\n";
        let shared = shared_settings(family);
        whole(&mut table, "family", "th", &format!("{} ({parameters} parameters{shared})", title(family)));
        for experiment in &family.experiments {
            if !experiment.label.is_empty() {
                whole(&mut table, "variant", "td", &experiment.label);
            }
            for line in experiment.lines() {
                table += &row(family, experiment, &line, (penalised, unequal));
            }
            for line in experiment.lines().iter().filter(|line| !line.is_adam()) {
                whole(&mut table, "said", "td", &said(family, experiment, line));
            }
        }
        if let Some(published) = published(&family.dataset, &family.model) {
            let (adam, [first, second]) = published.epochs();
            table += &published_row("Adam", &adam.to_string(), &adam.to_string(), published.adam, (penalised, unequal));
            let epochs = format!("{first} + {second}");
            table += &published_row("Adam + CG", &epochs, "not stated", published.adam_cg, (penalised, unequal));
            if family.loss != "mse" {
                let note =
                    "The published losses are mean squared errors: beside these runs only the accuracies compare.";
                whole(&mut table, "said", "td", note);
            }
        }
        table += "</tbody>\n";
    }
    table += "</table></div>\n<p>A <b>cost</b> of 1 is a gradient pass over the training set: a minibatch epoch, or an \
        evaluation of loss and gradient; a forward-only evaluation is 1/3. The <b>objective</b> is the train loss with the \
        penalty of l2, where there is one. Several seeds: the mean, and under it least and \
        greatest. <span class=\"better\">better</span> and <span class=\"worse\">worse</span> than the better Adam of the \
        same runs (where they have none, of the \
        runs above or below with the same model, data and loss), by means, column by column.";
    if unequal {
        table += " The train loss at equal cost is read where the method that spent least has ended, but for those that have converged and would \
            stand still; before a method\u{2019}s \
            own end it is the mean over a window\u{2019}s batches, or the accepted point\u{2019}s.";
    }
    table + "</p>\n"
}

fn row(family: &Family, experiment: &Experiment, line: &Line, (penalised, unequal): (bool, bool)) -> String {
    let adams = family.adams(experiment);
    let best = |value: &dyn Fn(&Line) -> Option<f64>| adams.iter().filter_map(value).max_by(f64::total_cmp);
    let judged = |ours: Option<f64>, adam: Option<f64>| match (ours, adam) {
        (Some(ours), Some(adam)) if !line.is_adam() && ours > adam => "better",
        (Some(ours), Some(adam)) if !line.is_adam() && ours < adam => "worse",
        _ => "",
    };
    let mut row = format!("<tr><td>{}</td><td>{}</td>", escaped(&named(line.name, "")), escaped(&seeds(line)));
    let mut cell = |text: String| row += &format!("<td>{text}</td>");
    cell(spread(line.spread(|method| method.epochs as f64), short, ""));
    cell(spread(line.spread(|method| method.cost), short, ""));
    cell(spread(line.spread(|method| method.seconds), short, ""));
    for metric in Metric::all(penalised) {
        let score = |line: &Line| line.spread(|method| metric.of(method)).map(|spread| metric.score(spread.mean));
        let class = judged(score(line), best(&score));
        cell(spread(line.spread(|method| metric.of(method)), if metric.is_loss() { loss } else { accuracy }, class));
    }
    if unequal {
        let common = family.common_cost(experiment);
        let score = |line: &Line| line.loss_at(common).map(|spread| Metric::TrainLoss.score(spread.mean));
        let class = judged(score(line), best(&score));
        let spends_more = line.methods.iter().any(|(_, method)| spends_more(method, common));
        let at = if spends_more { format!("<small>at cost {}</small>", short(common)) } else { String::new() };
        cell(spread(line.loss_at(common), loss, class) + &at);
    }
    cell(counted(line, line.spread_of_some(|method| method.cost_to_adam), |method| method.cost_to_adam.is_some()));
    let swap = line.spread_of_some(|method| method.swap.as_ref().map(|swap| swap.cost));
    cell(counted(line, swap, |method| method.swap.is_some()));
    row + "</tr>\n"
}

fn published_row(
    method: &str,
    epochs: &str,
    cost: &str,
    numbers: Numbers,
    (penalised, unequal): (bool, bool),
) -> String {
    let [train_loss, train_accuracy, valid_loss, valid_accuracy] = numbers;
    let objective = if penalised { "<td></td>" } else { "" };
    let empty = if unequal { "<td></td><td></td><td></td>" } else { "<td></td><td></td>" };
    format!(
        "<tr class=\"paper\"><td>published: {method}</td><td></td><td>{epochs}</td><td>{cost}</td><td></td>\
         <td>{train_loss:.4}</td>{objective}<td>{train_accuracy:.3}</td><td>{valid_loss:.4}</td><td>{valid_accuracy:.3}</td>{empty}</tr>\n"
    )
}

/// Where the method wins and where it loses, in words.
fn said(family: &Family, experiment: &Experiment, line: &Line) -> String {
    let adams = family.adams(experiment);
    if adams.is_empty() {
        return "There is no Adam among these runs to compare with.".into();
    }
    let mut groups = [vec![], vec![], vec![]];
    for metric in Metric::all(family.is_penalised()) {
        let score = |line: &Line| line.spread(|method| metric.of(method)).map(|spread| metric.score(spread.mean));
        let (Some(ours), Some(adam)) = (score(line), adams.iter().filter_map(score).max_by(f64::total_cmp)) else {
            continue;
        };
        let group = [ours > adam, ours == adam, ours < adam].iter().position(|&holds| holds).unwrap_or(1);
        let counts = experiment.seeds(line.name, metric);
        let of = counts.iter().sum::<usize>();
        let seeds = if of > 1 { format!(" ({} of {of} seeds)", counts[group]) } else { String::new() };
        groups[group].push(format!("{}{seeds}", metric.name()));
    }
    let words = ["better in", "equal in", "worse in"].iter().zip(groups).filter(|(_, metrics)| !metrics.is_empty());
    let words: Vec<String> = words.map(|(word, metrics)| format!("{word} {}", metrics.join(", "))).collect();
    format!("{} against the better Adam: {}.", named(line.name, ""), words.join("; "))
}

/// The settings beside the optimizer's that the summaries state and all experiments of the family share.
fn shared_settings(family: &Family) -> String {
    let known = ["model", "dataset", "loss", "parameters"];
    let identities = || family.experiments.iter().map(|experiment| &experiment.runs[0].identity);
    let Some(first) = identities().next().and_then(Value::as_object) else {
        return String::new();
    };
    let mut words = String::new();
    for (key, value) in first {
        let plain = value.is_string() || value.is_number() || value == &Value::Bool(true);
        if plain && !known.contains(&key.as_str()) && identities().all(|other| other.get(key) == Some(value)) {
            let value = value.as_str().map_or_else(|| value.to_string(), String::from);
            write!(words, ", {} {value}", key.replace('_', " ")).ok();
        }
    }
    let l2 = |identity: &Value| identity["config"]["l2"].as_f64().filter(|l2| *l2 > 0.0);
    if let Some(l2) =
        identities().next().and_then(l2).filter(|first| identities().all(|other| l2(other) == Some(*first)))
    {
        write!(words, ", l2 {l2}").ok();
    }
    words
}

/// Where each run is, what happened in it and how it was configured.
fn runs_of(family: &Family) -> String {
    let mut text = String::new();
    for experiment in &family.experiments {
        for run in &experiment.runs {
            let folder = escaped(&run.folder.display().to_string());
            text += &format!("<details><summary>{folder}: what happened, and the configuration</summary>\n<table>\n");
            text +=
                "<thead><tr><th>method</th><th>window</th><th>cost</th><th class=\"words\">event</th></tr></thead>\n";
            for method in &run.summary.methods {
                for event in &method.events {
                    text += &event_row(&method.name, event);
                }
            }
            let config = serde_json::to_string_pretty(&run.summary.config).unwrap_or_default();
            text += &format!("</table>\n<pre>{}</pre></details>\n", escaped(&config));
        }
    }
    text
}

/// `event` in words: its name, its reason, and whatever else it carries.
fn event_row(method: &str, event: &Value) -> String {
    let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), String::from);
    let get = |key: &str| event.get(key).map(plain).unwrap_or_default();
    let cost = event.get("cost").and_then(Value::as_f64).map(short).unwrap_or_default();
    let mut words = get("event").replace('_', " ");
    for (key, value) in event.as_object().into_iter().flatten() {
        match key.as_str() {
            "event" | "window" | "cost" | "pass" => {}
            "reason" => write!(words, ": {}", plain(value)).unwrap_or(()),
            _ => write!(words, ", {} {}", key.replace('_', " "), plain(value)).unwrap_or(()),
        }
    }
    let cells = [named(method, ""), get("window"), cost].map(|cell| format!("<td>{}</td>", escaped(&cell))).concat();
    format!("<tr>{cells}<td class=\"words\">{}</td></tr>\n", escaped(&words))
}

/// The seeds themselves where there are few.
fn seeds(line: &Line) -> String {
    let seeds: Vec<String> = line.methods.iter().map(|(run, _)| run.summary.seed.to_string()).collect();
    if seeds.len() <= 5 { seeds.join(", ") } else { format!("{} seeds", seeds.len()) }
}

/// The mean, of that class, and the extremes where they differ.
fn spread(value: Option<Spread>, format: fn(f64) -> String, class: &str) -> String {
    let Some(Spread { mean, low, high }) = value else {
        return "\u{2013}".into();
    };
    let (mean, low, high) = (format(mean), format(low), format(high));
    let extremes = if low == high { String::new() } else { format!("<small>{low} to {high}</small>") };
    format!("<span class=\"{class}\">{mean}</span>{extremes}")
}

/// As [`spread`] of a cost, and how many of the seeds have it where not all do.
fn counted(line: &Line, value: Option<Spread>, has: impl Fn(&super::run::Method) -> bool) -> String {
    let (some, all) = (line.methods.iter().filter(|(_, method)| has(method)).count(), line.methods.len());
    let of = if some == 0 || some == all { String::new() } else { format!("<small>{some} of {all} seeds</small>") };
    spread(value, short, "") + &of
}

/// At most one digit after the point.
pub fn short(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map_or_else(|| text.clone(), String::from)
}

pub fn loss(value: f64) -> String {
    match value {
        _ if !value.is_finite() => "diverged".into(),
        0.0 => "0".into(),
        _ if value.abs() < 1e-3 => format!("{value:.2e}"),
        _ => format!("{value:.4}"),
    }
}

pub fn accuracy(value: f64) -> String {
    format!("{value:.4}")
}

/// `154,058`.
pub fn thousands(value: usize) -> String {
    let digits = value.to_string();
    let groups = digits.as_bytes().rchunks(3).rev().map(|group| String::from_utf8_lossy(group).into_owned());
    groups.collect::<Vec<_>>().join(",")
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_as_short_as_they_read() {
        assert_eq!([150.0, 149.99999999999994, 14.25].map(short), ["150", "150", "14.2"]);
        assert_eq!([0.0, 9.95e-10, 0.0531, f64::NAN].map(loss), ["0", "9.95e-10", "0.0531", "diverged"]);
        assert_eq!([7, 8842, 1_154_058].map(thousands), ["7", "8,842", "1,154,058"]);
    }

    #[test]
    fn what_a_file_says_cannot_become_a_tag() {
        assert_eq!(escaped("<b>\"a\" & b</b>"), "&lt;b&gt;&quot;a&quot; &amp; b&lt;/b&gt;");
    }
}
