//! The two plots of a run, as SVG: gradient norm against loss, where convexity shows, and loss
//! against cost, where it pays.

use std::error::Error;
use std::ops::Range;
use std::path::Path;

use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::run::{Phase, TraceRow};

/// Okabe and Ito's colours, told apart by colour-blind readers; the yellow is left out, too pale
/// for a line.
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
    BLACK,
];
const SIZE: (i32, i32) = (860, 420);
/// Width of the legend's column; beside the plot, it hides no curve.
const LEGEND: i32 = 220;
const FONT: &str = "sans-serif";

/// Letters in a line of the legend.
const LETTERS: usize = 25;

/// The traces of one method, one a seed, to be drawn in one colour.
#[derive(Clone, Debug)]
pub struct Series<'a> {
    /// For the legend.
    pub label: String,
    /// The rows of each trace, in their order.
    pub traces: Vec<Vec<&'a TraceRow>>,
}

/// Lines to be drawn in one colour, and where on them the phase changed.
struct Curve {
    label: String,
    lines: Vec<Vec<(f64, f64)>>,
    swaps: Vec<(f64, f64)>,
    hand_backs: Vec<(f64, f64)>,
}

impl Curve {
    /// Through the rows whose `point` is finite and, for the sake of a logarithmic axis, not at or
    /// under 0 in height.
    fn new(series: &Series, point: impl Fn(&TraceRow) -> Option<(f64, f64)>) -> Self {
        let mut curve = Self { label: series.label.clone(), lines: vec![], swaps: vec![], hand_backs: vec![] };
        let drawable = |(x, y): &(f64, f64)| x.is_finite() && y.is_finite() && *y > 0.0;
        for trace in &series.traces {
            let mut line = vec![];
            let mut before: Option<(Phase, (f64, f64))> = None;
            for row in trace {
                let Some(point) = point(row).filter(drawable) else {
                    continue;
                };
                // The change happened at the end of the window before the first one in the new phase.
                match before {
                    Some((Phase::NonConvex, swap)) if row.phase == Phase::Convex => curve.swaps.push(swap),
                    Some((Phase::Convex, back)) if row.phase == Phase::NonConvex => curve.hand_backs.push(back),
                    _ => {}
                }
                line.push(point);
                before = Some((row.phase, point));
            }
            curve.lines.push(line);
        }
        curve
    }
}

/// The gradient norms of one method against its train loss. Where the norm grows while the loss
/// falls, the loss is not convex; where both fall, it is. A loss under a thousandth of the
/// largest, and under a third of that at the swap, is left out: the norm is near 0 there and the
/// peak is what matters.
///
/// # Errors
/// Where the file cannot be written.
pub fn norm_against_loss<'a>(
    path: &Path,
    title: &str,
    rows: impl IntoIterator<Item = &'a TraceRow>,
) -> Result<(), Box<dyn Error>> {
    let mut rows: Vec<&TraceRow> = rows.into_iter().collect();
    let finite = rows.iter().map(|row| row.train_loss).filter(|loss| loss.is_finite());
    let largest = finite.fold(0.0, f64::max);
    let before = rows.windows(2).find(|pair| pair[0].phase == Phase::NonConvex && pair[1].phase == Phase::Convex);
    let swap = before.map_or(f64::INFINITY, |pair| pair[0].train_loss);
    let least = (largest / 1000.0).min(swap / 3.0);
    rows.retain(|row| row.train_loss > least);
    let curves = norms(&rows);
    let (x, y) = bounds(&curves);
    let axes = ["train loss (training runs from right to left)", "gradient norm"];
    let y = 0.0..y.end * 1.05;
    if x.end / x.start > 20.0 {
        chart(path, title, axes, (decades(x).log_scale(), &power_of_ten), (y, &plain), &curves)
    } else {
        chart(path, title, axes, (0.0..x.end * 1.02, &plain), (y, &plain), &curves)
    }
}

/// The convex phase has no norms of batches: a line for every stretch before and behind it.
fn norms(rows: &[&TraceRow]) -> [Curve; 2] {
    let stretches = rows.chunk_by(|row, next| row.phase == next.phase).filter(|rows| rows[0].phase == Phase::NonConvex);
    let batches = Series { label: "mean of the batch norms".into(), traces: stretches.map(<[_]>::to_vec).collect() };
    let mean = Series { label: "norm of the mean gradient".into(), traces: vec![rows.to_vec()] };
    [
        Curve::new(&batches, |row| Some((row.train_loss, row.batch_norm?))),
        Curve::new(&mean, |row| Some((row.train_loss, row.mean_norm?))),
    ]
}

/// The train loss of every method in `rows` against the gradient passes spent, on a logarithmic
/// axis.
///
/// # Errors
/// Where the file cannot be written.
pub fn loss_against_cost(path: &Path, title: &str, rows: &[TraceRow]) -> Result<(), Box<dyn Error>> {
    let mut methods: Vec<&str> = vec![];
    for row in rows {
        if !methods.contains(&row.method.as_str()) {
            methods.push(&row.method);
        }
    }
    let series = methods.iter().map(|method| Series {
        label: method.replace('_', " "),
        traces: vec![rows.iter().filter(|row| row.method == *method).collect()],
    });
    losses_against_cost(path, title, &series.collect::<Vec<_>>())
}

/// As [`loss_against_cost`], of any number of runs.
///
/// # Errors
/// Where the file cannot be written.
pub fn losses_against_cost(path: &Path, title: &str, series: &[Series]) -> Result<(), Box<dyn Error>> {
    let curve = |series| Curve::new(series, |row| Some((row.cost, row.train_loss)));
    let curves: Vec<Curve> = series.iter().map(curve).collect();
    let (x, y) = bounds(&curves);
    let axes = ["cost (gradient passes over the training set)", "train loss"];
    chart(path, title, axes, (0.0..x.end * 1.02, &plain), (decades(y).log_scale(), &power_of_ten), &curves)
}

/// The ranges of the curves' two coordinates, never empty.
fn bounds(curves: &[Curve]) -> (Range<f64>, Range<f64>) {
    let range = |coordinate: fn(&(f64, f64)) -> f64| {
        let values = || curves.iter().flat_map(|curve| curve.lines.iter().flatten()).map(coordinate);
        let high = values().reduce(f64::max).unwrap_or(1.0);
        let low = values().reduce(f64::min).unwrap_or(1.0);
        if low < high { low..high } else { high / 2.0..high * 2.0 }
    };
    (range(|point| point.0), range(|point| point.1))
}

/// Down to a power of ten, so that a logarithmic axis always has a label.
fn decades(range: Range<f64>) -> Range<f64> {
    10f64.powf(range.start.log10().floor())..range.end
}

/// As short as it reads: `0.25`, `120`.
fn plain(value: &f64) -> String {
    format!("{}", (value * 1e6).round() / 1e6)
}

/// `1e-3` at powers of ten, nothing between them.
fn power_of_ten(value: &f64) -> String {
    let exponent = value.log10();
    let whole = exponent.round();
    if (exponent - whole).abs() < 1e-6 { format!("1e{}", whole as i32) } else { String::new() }
}

fn chart<X, Y>(
    path: &Path,
    title: &str,
    [x_label, y_label]: [&str; 2],
    (x, x_format): (X, &dyn Fn(&f64) -> String),
    (y, y_format): (Y, &dyn Fn(&f64) -> String),
    curves: &[Curve],
) -> Result<(), Box<dyn Error>>
where
    X: AsRangedCoord<Value = f64, CoordDescType: ValueFormatter<f64>>,
    Y: AsRangedCoord<Value = f64, CoordDescType: ValueFormatter<f64>>,
{
    let labels: Vec<Vec<String>> = curves.iter().map(|curve| wrapped(&curve.label)).collect();
    let legend_height = labels.iter().map(|label| 8 + 18 * label.len() as i32).sum::<i32>() + 130;
    let size = (SIZE.0 as u32, SIZE.1.max(legend_height) as u32);
    let area = SVGBackend::new(path, size).into_drawing_area();
    area.fill(&WHITE)?;
    let (plot, legend) = area.split_horizontally(SIZE.0 - LEGEND);
    let mut chart = ChartBuilder::on(&plot)
        .caption(title, (FONT, 20))
        .margin(12)
        .x_label_area_size(46)
        .y_label_area_size(62)
        .build_cartesian_2d(x, y)?;
    chart
        .configure_mesh()
        .x_desc(x_label)
        .y_desc(y_label)
        .x_label_formatter(x_format)
        .y_label_formatter(y_format)
        .axis_desc_style((FONT, 16))
        .label_style((FONT, 15))
        .bold_line_style(BLACK.mix(0.15))
        .light_line_style(TRANSPARENT)
        .draw()?;

    let mut next = 86;
    let mut explain = |label: &[String]| {
        let first = next;
        for text in label {
            let style = (FONT, 15).into_text_style(&legend).pos(Pos::new(HPos::Left, VPos::Center));
            legend.draw(&Text::new(text.clone(), (36, next), style))?;
            next += 18;
        }
        next += 8;
        Ok::<_, Box<dyn Error>>(first)
    };
    let coloured = || curves.iter().zip(COLOURS.into_iter().cycle());
    for ((curve, colour), label) in coloured().zip(&labels) {
        let stroke = colour.stroke_width(2);
        for line in &curve.lines {
            chart.draw_series(LineSeries::new(line.iter().copied(), stroke))?;
        }
        let line = explain(label)?;
        legend.draw(&PathElement::new([(4, line), (28, line)], stroke))?;
    }
    // After the lines, so that no line crosses a mark.
    let swap = |colour: RGBColor| colour.filled();
    let hand_back = |colour: RGBColor| colour.stroke_width(2);
    for (curve, colour) in coloured() {
        let swaps = curve.swaps.iter().map(|&at| Circle::new(at, 6, swap(colour)));
        chart.draw_series(swaps)?;
        let hand_backs = curve.hand_backs.iter().map(|&at| Circle::new(at, 6, hand_back(colour)));
        chart.draw_series(hand_backs)?;
    }
    if curves.iter().any(|curve| !curve.swaps.is_empty()) {
        let line = explain(&["swap to the convex phase".into()])?;
        legend.draw(&Circle::new((16, line), 6, swap(BLACK)))?;
    }
    if curves.iter().any(|curve| !curve.hand_backs.is_empty()) {
        let line = explain(&["back to the inner optimizer".into()])?;
        legend.draw(&Circle::new((16, line), 6, hand_back(BLACK)))?;
    }
    area.present()?;
    Ok(())
}

/// In lines of at most [`LETTERS`] letters, broken between words.
fn wrapped(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = vec![];
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= LETTERS => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.into()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(window: usize, train_loss: f64, phase: Phase) -> TraceRow {
        TraceRow {
            method: "convexity_switching".into(),
            window,
            epoch: window,
            cost: window as f64,
            phase,
            batch_norm: Some(1.0),
            mean_norm: Some(0.5),
            train_loss,
            valid_loss: None,
            step_length: None,
            seconds: 0.0,
        }
    }

    #[test]
    fn changes_of_phase_are_marked_at_the_last_window_before_them() {
        use Phase::{Convex, NonConvex};
        let phases = [NonConvex, NonConvex, Convex, Convex, NonConvex, Convex];
        let rows: Vec<_> = (1..).zip(phases).map(|(window, phase)| row(window, 1.0, phase)).collect();
        let series = Series { label: "".into(), traces: vec![rows.iter().collect()] };
        let curve = Curve::new(&series, |row| Some((row.cost, row.train_loss)));
        assert_eq!(curve.swaps, [(2.0, 1.0), (5.0, 1.0)]);
        assert_eq!(curve.hand_backs, [(4.0, 1.0)]);
    }

    #[test]
    fn the_norms_of_batches_are_drawn_where_batches_are_walked_alone() {
        use Phase::{Convex, NonConvex};
        let phases = [NonConvex, NonConvex, Convex, Convex, NonConvex];
        let rows: Vec<_> = (1..).zip(phases).map(|(window, phase)| row(window, 1.0 / window as f64, phase)).collect();
        let [batches, mean] = norms(&rows.iter().collect::<Vec<_>>());
        assert_eq!(batches.lines, [vec![(1.0, 1.0), (0.5, 1.0)], vec![(0.2, 1.0)]]);
        assert_eq!(mean.lines.iter().map(Vec::len).collect::<Vec<_>>(), [5]);
        assert_eq!(mean.swaps, [(0.5, 0.5)]);
    }

    #[test]
    fn a_long_label_is_broken_between_words() {
        assert_eq!(wrapped("convexity switching, direction l_bfgs"), ["convexity switching,", "direction l_bfgs"]);
        assert_eq!(wrapped("an_unbreakable_name_of_thirty_letters"), ["an_unbreakable_name_of_thirty_letters"]);
        assert!(wrapped("").is_empty());
    }

    #[test]
    fn a_late_swap_is_marked_among_the_norms_too() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plot.svg");
        let phases = [Phase::NonConvex, Phase::NonConvex, Phase::Convex, Phase::Convex];
        let losses = [2.0, 1e-4, 5e-5, 1e-9];
        let rows: Vec<_> =
            (1..).zip(losses.into_iter().zip(phases)).map(|(w, (loss, phase))| row(w, loss, phase)).collect();
        norm_against_loss(&path, "title", &rows).unwrap();
        let svg = std::fs::read_to_string(&path).unwrap();
        assert!(svg.contains("swap to the convex phase") && svg.contains("1e-5") && !svg.contains("1e-6"));
    }

    #[test]
    fn any_run_can_be_drawn_an_empty_and_a_diverged_one_too() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plot.svg");
        let losses: [&[f64]; 4] = [&[], &[0.5], &[2.0, f64::NAN, f64::INFINITY, 1e-9], &[0.0, 0.0]];
        for losses in losses {
            let rows: Vec<_> = losses.iter().map(|&loss| row(1, loss, Phase::Convex)).collect();
            let complete = || std::fs::read_to_string(&path).unwrap().trim_end().ends_with("</svg>");
            norm_against_loss(&path, "title", &rows).unwrap();
            assert!(complete());
            loss_against_cost(&path, "title", &rows).unwrap();
            assert!(complete());
        }
    }
}
