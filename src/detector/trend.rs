//! The straight line through a few points by least squares.

/// A line `y = a + slope * x` fitted to points.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Trend {
    /// `slope = sum (x - mx)(y - my) / sum (x - mx)^2`.
    pub slope: f64,
    /// Pearson's correlation of `x` and `y`, in `[-1, 1]`; not a number where `y` is constant.
    pub correlation: f64,
}

impl Trend {
    /// The fit, or `None` where the points determine none: fewer than two different `x`, or numbers too large to square.
    pub fn fit(points: &[(f64, f64)]) -> Option<Self> {
        let count = points.len() as f64;
        let mean_x = points.iter().map(|(x, _)| x / count).sum::<f64>();
        let mean_y = points.iter().map(|(_, y)| y / count).sum::<f64>();
        let (mut xx, mut xy, mut yy) = (0.0, 0.0, 0.0);
        for (x, y) in points {
            let (x, y) = (x - mean_x, y - mean_y);
            xx += x * x;
            xy += x * y;
            yy += y * y;
        }
        let trend = Self { slope: xy / xx, correlation: xy / (xx.sqrt() * yy.sqrt()) };
        trend.slope.is_finite().then_some(trend)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_on_a_line_give_its_slope_and_a_correlation_of_one() {
        let trend = Trend::fit(&[(0.0, 5.0), (1.0, 3.0), (2.0, 1.0)]).unwrap();
        assert_eq!(trend.slope, -2.0);
        assert!((trend.correlation + 1.0).abs() < 1e-15);
    }

    #[test]
    fn scattered_points_give_the_textbook_fit() {
        // By hand, with means 2 and 7/3: xy = 3, xx = 2, yy = 14/3.
        let trend = Trend::fit(&[(1.0, 1.0), (2.0, 2.0), (3.0, 4.0)]).unwrap();
        assert!((trend.slope - 1.5).abs() < 1e-15);
        assert!((trend.correlation - 3.0 / (28.0f64 / 3.0).sqrt()).abs() < 1e-15);
    }

    #[test]
    fn a_constant_has_no_slope_and_no_correlation() {
        let trend = Trend::fit(&[(1.0, 4.0), (2.0, 4.0)]).unwrap();
        assert_eq!(trend.slope, 0.0);
        assert!(trend.correlation.is_nan());
    }

    #[test]
    fn points_that_determine_no_line_give_none() {
        assert_eq!(Trend::fit(&[]), None);
        assert_eq!(Trend::fit(&[(1.0, 1.0)]), None);
        assert_eq!(Trend::fit(&[(1.0, 1.0), (1.0, 2.0)]), None);
        assert_eq!(Trend::fit(&[(1e300, 1e300), (-1e300, -1e300)]), None);
    }
}
