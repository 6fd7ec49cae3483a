//! Where a function of one variable has its minimum, seen from two points with values and slopes.

use super::Point;
use super::replay::midpoint;

/// A step with what is known there.
#[derive(Clone, Copy)]
pub(super) struct Sample {
    pub(super) step: f64,
    pub(super) value: f64,
    pub(super) slope: f64,
}

impl Sample {
    pub(super) fn of(point: Point) -> Option<Self> {
        Some(Self { step: point.step, value: point.value?, slope: point.slope? })
    }
}

/// A step towards the minimum that lies between the lowest point `l` and a trial `t` behind it, which is higher or has a slope of
/// the other sign (Moré and Thuente 1994, section 4, cases 1 and 2).
pub(super) fn between(l: Sample, t: Sample) -> f64 {
    let cubic = cubic_minimiser(l, t);
    // Case 1: too high. The cubic, or half way to the quadratic if that is nearer to the lowest point.
    if t.value > l.value {
        let quadratic = quadratic_minimiser(l, t);
        let cubic_is_near = (cubic - l.step).abs() < (quadratic - l.step).abs();
        return if cubic_is_near { cubic } else { midpoint(cubic, quadratic) };
    }
    // Case 2: lower, beyond a minimum. Whichever is farther from the trial.
    let secant = secant(l, t);
    if (cubic - t.step).abs() >= (secant - t.step).abs() { cubic } else { secant }
}

/// The minimiser of the cubic with the values and slopes of two points (Nocedal and Wright 2006, eq. (3.59)).
pub(super) fn cubic_minimiser(a: Sample, b: Sample) -> f64 {
    let width = b.step - a.step;
    let d1 = a.slope + b.slope - 3.0 * (b.value - a.value) / width;
    let d2 = (d1 * d1 - a.slope * b.slope).sqrt().copysign(width);
    b.step - width * (b.slope + d2 - d1) / (b.slope - a.slope + 2.0 * d2)
}

/// The minimiser of the parabola with two values and the slope of the first point.
fn quadratic_minimiser(a: Sample, b: Sample) -> f64 {
    let width = b.step - a.step;
    a.step + 0.5 * width * a.slope / (a.slope - (b.value - a.value) / width)
}

/// The zero of the line through two slopes. From a base at 0 it keeps its digits, however steep the other end.
pub(super) fn secant(a: Sample, b: Sample) -> f64 {
    (a.step * b.slope - b.step * a.slope) / (b.slope - a.slope)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `phi(t) = (t - minimum)^2 (1 + bend (t - minimum))` at `t`.
    fn cubic(minimum: f64, bend: f64) -> impl Fn(f64) -> Sample {
        move |step| {
            let t = step - minimum;
            Sample { step, value: t * t * (1.0 + bend * t), slope: 2.0 * t + 3.0 * bend * t * t }
        }
    }

    #[test]
    fn a_cubic_and_a_parabola_are_met_from_either_side() {
        for (minimum, bend) in [(1.0, 0.0), (1.0, 0.2), (1.0, -0.2), (1e-9, 0.1), (3.0, 0.1), (-0.5, 0.3)] {
            let at = cubic(minimum, bend);
            for (a, b) in [(0.0, 2.0), (2.0, 0.0), (0.0, 0.4), (0.5, 0.0)] {
                let found = cubic_minimiser(at(a), at(b));
                assert!((found - minimum).abs() < 1e-12, "{minimum}, {bend} from {a} and {b}: {found}");
            }
        }
    }

    #[test]
    fn a_zero_of_the_secant_next_to_the_base_is_not_lost_in_rounding() {
        let [base, wall] = [(0.0, -1e-6), (1e3, 1e20)].map(|(step, slope)| Sample { step, value: 0.0, slope });
        assert!((secant(base, wall) / 1e-23 - 1.0).abs() < 1e-12);
    }
}
