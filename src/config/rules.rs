//! The rules a schema cannot say: those between parameters. Each part states its own in its `validate`, those between
//! parts are here.

use super::check::{Finding, Spot};
use super::error::{Path, Problem};
use super::{ConvexitySwitchingConfig, DetectorConfig, DirectionConfig, InnerConfig, LineSearchConfig, MetricConfig};
use crate::error::ParameterError;

/// Everything wrong with a configuration by rules between its parameters.
pub(crate) fn check(config: &ConvexitySwitchingConfig) -> Vec<Finding> {
    let root = Path::default();
    let direction = match &config.direction {
        DirectionConfig::ConjugateGradient(direction) => direction.validate(),
        DirectionConfig::LBfgs(direction) => direction.validate(),
    };
    let line_search = match &config.line_search {
        LineSearchConfig::HagerZhang(search) => search.validate(),
        LineSearchConfig::StrongWolfe(search) => search.validate(),
        LineSearchConfig::GoldenSection(search) => search.validate(),
    };
    let mut findings = detector(&config.detector, &root.key("detector"));
    findings.extend(within(&root.key("inner"), inner(&config.inner)));
    findings.extend(within(&root.key("direction"), direction));
    findings.extend(within(&root.key("line_search"), line_search));
    findings.extend(within(&root.key("safe_resort"), config.safe_resort.validate()));
    findings.extend(within(&root, renewal(config)));
    findings.extend(metric(config));
    findings
}

/// Burn keeps these numbers in f32, where they must not round to what they may not be.
fn inner(config: &InnerConfig) -> Result<(), ParameterError> {
    let (beta_1, beta_2, epsilon) = match config {
        InnerConfig::Adam(adam) => (adam.beta_1, adam.beta_2, adam.epsilon),
        InnerConfig::AdamW(adamw) => (adamw.beta_1, adamw.beta_2, adamw.epsilon),
        InnerConfig::Sgd(_) => return Ok(()),
    };
    for (name, beta) in [("beta_1", beta_1), ("beta_2", beta_2)] {
        ParameterError::range((beta as f32) < 1.0, name, beta, "under 1 as a 32-bit number, at most 0.99999994")?;
    }
    let shown = format!("{epsilon:e}");
    ParameterError::range(epsilon as f32 > 0.0, "epsilon", shown, "above 0 as a 32-bit number, at least 1e-45")
}

fn detector(config: &DetectorConfig, path: &Path) -> Vec<Finding> {
    let own = match config {
        DetectorConfig::GradientNormPeak(detector) => detector.validate(),
        DetectorConfig::AtWindow(detector) => detector.validate(),
        DetectorConfig::Never(_) => Ok(()),
        DetectorConfig::LossLevel(detector) => detector.validate(),
        DetectorConfig::LossPlateau(detector) => detector.validate(),
        DetectorConfig::NormVersusLoss(detector) => detector.validate(),
        DetectorConfig::LossSlope(detector) => detector.validate(),
        DetectorConfig::Any(combination) | DetectorConfig::All(combination) => {
            let of = path.key("of");
            let parts = combination.of.iter().enumerate();
            return parts.flat_map(|(index, part)| detector(part, &of.index(index))).collect();
        }
    };
    within(path, own).into_iter().collect()
}

/// A part's own verdict, at the part's place.
fn within(path: &Path, verdict: Result<(), ParameterError>) -> Option<Finding> {
    Some(match verdict.err()? {
        ParameterError::OutOfRange { parameter, value, rule } => {
            let path = path.key(parameter);
            let expected = rule.to_owned();
            path.value(Problem::OutOfRange { path: path.clone(), expected, found: value })
        }
        ParameterError::Contradiction { parameters, values, rule } => {
            contradiction(parameters.map(|parameter| path.key(parameter)), values, rule)
        }
    })
}

fn contradiction(paths: [Path; 2], values: [String; 2], rule: &str) -> Finding {
    let first = paths[0].clone();
    first.value(Problem::Contradiction { paths, values, rule: rule.to_owned(), other: None })
}

/// From Rust it may be no number, which JSON does not have.
fn renewal(config: &ConvexitySwitchingConfig) -> Result<(), ParameterError> {
    let cost = config.metric_renewal.unwrap_or(1.0);
    ParameterError::range(cost > 0.0 && cost.is_finite(), "metric_renewal", cost, "above 0 and finite, or `null`")
}

fn metric(config: &ConvexitySwitchingConfig) -> Option<Finding> {
    if config.metric != MetricConfig::Inner || config.inner.has_second_moment() {
        return None;
    }
    let root = Path::default();
    Some(contradiction(
        [root.key("metric"), root.key("inner").key("kind")],
        ["inner".into(), config.inner.kind().into()],
        "this metric is made of the second moment of adam or adamw",
    ))
}

impl Path {
    /// A finding about the value at this path.
    pub(super) fn value(&self, problem: Problem) -> Finding {
        Finding { path: self.clone(), spot: Spot::Value, problem }
    }
}
