//! The table of a report as Markdown, for a README.

use super::gather::{Experiment, Family, Line, Run, Spread, is_adam, same_cost};
use super::named;
use super::page::{accuracy, loss, short, thousands};
use super::run::Method;

/// One table for each family, a line for each method over its seeds; with the objective where a run of it has a penalty.
pub fn markdown(families: &[Family]) -> String {
    families.iter().map(table).collect::<Vec<_>>().join("\n")
}

fn table(family: &Family) -> String {
    let Family { dataset, model, loss, parameters, .. } = family;
    let mut text = format!("{dataset}, {model} ({} parameters), {loss}:\n\n", thousands(*parameters));
    let penalised = family.is_penalised();
    let mut header = vec!["method", "seeds", "cost", "train loss", "of the better Adam's"];
    header.extend(penalised.then_some(["objective", "objective of the better Adam's"]).into_iter().flatten());
    header.extend(["train accuracy", "valid loss", "valid accuracy", "Adam's end reached at cost", "swap at cost"]);
    text += &format!("| {} |\n|{}\n", header.join(" | "), "---|".repeat(header.len()));
    for experiment in &family.experiments {
        for line in experiment.lines() {
            text += &row(family, experiment, &line, penalised);
        }
    }
    text
}

fn row(family: &Family, experiment: &Experiment, line: &Line, penalised: bool) -> String {
    let mean = |value: fn(&Method) -> f64, format: fn(f64) -> String| {
        line.spread(value).map_or("-".into(), |spread| format(spread.mean))
    };
    let over_adam = |ratio: Ratio| {
        let ratios = line.methods.iter().map(|(run, method)| ratio(family, experiment, run, method));
        match ratios.collect::<Option<Vec<f64>>>().as_deref().and_then(geometric_mean) {
            Some(0.0) if !line.is_adam() => "0".into(),
            Some(ratio) if !line.is_adam() => format!("{ratio:.2e}"),
            _ => "-".into(),
        }
    };
    let reached: Vec<Option<f64>> =
        line.methods.iter().map(|(run, method)| reached(family, experiment, run, method)).collect();
    let swaps: Vec<Option<f64>> =
        line.methods.iter().map(|(_, method)| method.swap.as_ref().map(|swap| swap.cost)).collect();
    let geometric = |value: fn(&Method) -> f64| {
        let values: Vec<f64> = line.methods.iter().map(|(_, method)| value(method)).collect();
        geometric_mean(&values).map_or("-".into(), loss)
    };
    let mut cells = vec![
        named(line.name, &experiment.label),
        line.methods.len().to_string(),
        mean(|method| method.cost, short),
        geometric(|method| method.train_loss),
        over_adam(train_loss_ratio),
    ];
    if penalised {
        cells.extend([geometric(Method::objective), over_adam(objective_ratio)]);
    }
    cells.extend([
        mean(|method| method.train_accuracy, accuracy),
        mean(|method| method.valid_loss, loss),
        mean(|method| method.valid_accuracy, accuracy),
        of_seeds(&reached),
        of_seeds(&swaps),
    ]);
    format!("| {} |\n", cells.join(" | "))
}

/// Least to greatest, and how many of the seeds have it where not all do.
fn of_seeds(values: &[Option<f64>]) -> String {
    let Some(Spread { low, high, .. }) = Spread::of(values.iter().copied().flatten()) else {
        return "-".into();
    };
    let (low, high) = (short(low), short(high));
    let range = if low == high { low } else { format!("{low} to {high}") };
    let (some, all) = (values.iter().flatten().count(), values.len());
    if some == all { range } else { format!("{range} ({some} of {all} seeds)") }
}

/// Of a run's method over the better Adam's of the same seed.
type Ratio = fn(&Family, &Experiment, &Run, &Method) -> Option<f64>;

/// The train losses, when the Adam had cost as much.
fn train_loss_ratio(family: &Family, experiment: &Experiment, run: &Run, method: &Method) -> Option<f64> {
    Some(method.train_loss / better_adam(family, experiment, run, method)?)
}

/// The objectives at the end, where an Adam has cost as much then.
fn objective_ratio(family: &Family, experiment: &Experiment, run: &Run, method: &Method) -> Option<f64> {
    let known = |cost: f64| same_cost(cost, method.cost) || (method.cost < cost && cost <= method.known_until());
    let adams = adams(family, experiment, run).filter(|(_, adam)| known(adam.cost));
    Some(method.objective() / adams.map(|(_, adam)| adam.objective()).min_by(f64::total_cmp)?)
}

/// What a method had cost when its train loss was first that of the better Adam's end; of a run without an Adam of its own,
/// the Adam of its family.
fn reached(family: &Family, experiment: &Experiment, run: &Run, method: &Method) -> Option<f64> {
    method.cost_to_adam.or_else(|| {
        let goal = better_adam(family, experiment, run, method).filter(|_| !is_adam(&method.name))?;
        run.rows(&method.name).iter().find(|row| row.train_loss <= goal).map(|row| row.cost)
    })
}

/// The better Adam's train loss, of the same seed, when it had cost as much as this method; at its end, where that has converged.
fn better_adam(family: &Family, experiment: &Experiment, run: &Run, method: &Method) -> Option<f64> {
    let adams = adams(family, experiment, run);
    adams.filter_map(|(other, adam)| other.loss_at(adam, method.known_until())).min_by(f64::total_cmp)
}

/// The Adams of a run's seed, with their runs.
fn adams<'a>(family: &'a Family, experiment: &'a Experiment, run: &Run) -> impl Iterator<Item = (&'a Run, &'a Method)> {
    let seed = run.summary.seed;
    let adams = family.adams(experiment).into_iter().flat_map(|adam| adam.methods);
    adams.filter(move |(other, _)| other.summary.seed == seed)
}

/// `None` of nothing, and of what is not a number; 0 where one of them is 0.
fn geometric_mean(values: &[f64]) -> Option<f64> {
    let mean = values.iter().map(|value| value.ln()).sum::<f64>() / values.len() as f64;
    Some(mean.exp()).filter(|mean| !mean.is_nan())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_geometric_mean_of_two_is_the_root_of_their_product() {
        assert!((geometric_mean(&[2.0, 8.0]).unwrap() - 4.0).abs() < 1e-12);
        assert_eq!(geometric_mean(&[]), None);
        assert_eq!(geometric_mean(&[1.0, 0.0]), Some(0.0));
        assert_eq!(geometric_mean(&[1.0, f64::NAN]), None);
    }
}
