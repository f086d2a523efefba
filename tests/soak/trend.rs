//! Whether a quantity grows over a run: its slope by least squares, the error of that, and the rule.
//!
//! The samples are put into blocks of equal length first, each with its median. A block is longer than the time between
//! two disturbances of the same kind, so that neighbouring blocks are nearly independent, which the error presumes.

use crate::figures;

/// Blocks of a run.
const BLOCKS: usize = 30;
/// Standard errors on each side of a slope that contain it with 95 % probability (Student's t for 28 degrees of freedom).
const ERRORS: f64 = 2.05;
/// A run whose measured part is shorter, in seconds, is not judged: caches and the allocator's free lists still fill, and a
/// single backup would decide.
pub const MIN_SECONDS: f64 = 600.0;

/// A slope and what it means over the run.
#[derive(Clone, Copy, Debug)]
pub struct Trend {
    /// Per hour.
    pub slope: f64,
    /// Half of the interval that contains the slope with 95 % probability, per hour.
    pub error: f64,
    /// What the slope adds over the run, as a share of the mean.
    pub growth: f64,
    /// Length of the measured part in seconds.
    pub seconds: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The growth over the run is below the allowed share of the mean.
    Flat,
    /// It is not, but the slope cannot be told from 0.
    NotDistinguishable,
    Grows,
    TooShort,
}

impl Trend {
    /// The trend of the samples from `warm_up` seconds on; `None` with fewer samples than blocks have to be filled.
    pub fn of(at: &[f64], values: &[f64], warm_up: f64) -> Option<Trend> {
        let measured = at.iter().zip(values).filter(|(at, value)| **at >= warm_up && value.is_finite());
        let points: Vec<(f64, f64)> = measured.map(|(at, value)| (*at, *value)).collect();
        let seconds = points.last()?.0 - points.first()?.0;
        let blocks = blocks(&points, BLOCKS.min(points.len()));
        if blocks.len() < 3 || seconds <= 0.0 {
            return None;
        }
        let count = blocks.len() as f64;
        let mean_at = blocks.iter().map(|block| block.0).sum::<f64>() / count;
        let mean = blocks.iter().map(|block| block.1).sum::<f64>() / count;
        let spread: f64 = blocks.iter().map(|block| (block.0 - mean_at).powi(2)).sum();
        let slope = blocks.iter().map(|block| (block.0 - mean_at) * (block.1 - mean)).sum::<f64>() / spread;
        let residual = |block: &(f64, f64)| block.1 - mean - slope * (block.0 - mean_at);
        let variance = blocks.iter().map(|block| residual(block).powi(2)).sum::<f64>() / (count - 2.0);
        Some(Trend {
            slope: slope * 3600.0,
            error: ERRORS * (variance / spread).sqrt() * 3600.0,
            growth: slope * seconds / mean,
            seconds,
        })
    }

    /// The rule: flat if the slope times the length of the run is less than `share` of the mean, or if the slope is not
    /// distinguishable from 0. What falls does not grow.
    pub fn verdict(&self, share: f64) -> Verdict {
        if self.seconds < MIN_SECONDS {
            Verdict::TooShort
        } else if self.growth < share {
            Verdict::Flat
        } else if self.slope <= self.error {
            Verdict::NotDistinguishable
        } else {
            Verdict::Grows
        }
    }
}

/// Mean time and median of each of `count` blocks of equal length; blocks without samples are left out.
fn blocks(points: &[(f64, f64)], count: usize) -> Vec<(f64, f64)> {
    let [(first, _), .., (last, _)] = points else { return points.to_vec() };
    let mut blocks: Vec<Vec<(f64, f64)>> = vec![Vec::new(); count];
    for point in points {
        let place = ((point.0 - first) / (last - first) * count as f64) as usize;
        blocks[place.min(count - 1)].push(*point);
    }
    let of = |block: &Vec<(f64, f64)>| {
        let at = block.iter().map(|point| point.0).sum::<f64>() / block.len() as f64;
        median(&block.iter().map(|point| point.1).collect::<Vec<_>>()).map(|middle| (at, middle))
    };
    blocks.iter().filter_map(of).collect()
}

/// The median of what is finite; `None` without such values.
pub fn median(values: &[f64]) -> Option<f64> {
    figures::median(values.iter().copied().filter(|value| value.is_finite()).collect())
}

/// Samples of `seconds` seconds: a level, a slope an hour, and noise of a given height.
#[cfg(test)]
fn made_up(seconds: usize, level: f64, slope: f64, noise: f64) -> (Vec<f64>, Vec<f64>) {
    let mut random = crate::common::Random::new(1, 0);
    let at: Vec<f64> = (1..=seconds).map(|second| second as f64).collect();
    let mut noise = || (random.below(1001) as f64 / 500.0 - 1.0) * noise;
    let values = at.iter().map(|at| level + slope * at / 3600.0 + noise()).collect();
    (at, values)
}

#[test]
fn a_slope_is_found_with_its_error_behind_the_warm_up() {
    let (at, mut values) = made_up(3600, 20.0, 3.0, 1.0);
    // The warm-up does not count.
    values[..600].fill(500.0);
    // Nor does a single second of each minute, nor one without a value.
    values.iter_mut().step_by(60).for_each(|value| *value *= 50.0);
    values.iter_mut().step_by(70).for_each(|value| *value = f64::NAN);
    let trend = Trend::of(&at, &values, 601.0).expect("enough samples");
    assert!((trend.slope - 3.0).abs() <= trend.error, "{trend:?}");
    assert!(trend.error < 0.6, "{trend:?}");
    assert!((trend.growth - 2.5 / 21.75).abs() < 0.02, "{trend:?}");
}

#[test]
fn what_grows_is_told_from_what_only_varies() {
    let verdict = |seconds, slope, noise, share| {
        let (at, values) = made_up(seconds, 20.0, slope, noise);
        Trend::of(&at, &values, 0.0).expect("enough samples").verdict(share)
    };
    // 3 MB an hour on 20 MB.
    assert_eq!(verdict(3600, 3.0, 1.0, 0.05), Verdict::Grows);
    // Half a megabyte an hour is within 5 % of 20 MB, however sure.
    assert_eq!(verdict(3600, 0.5, 0.01, 0.05), Verdict::Flat);
    assert_eq!(verdict(3600, -9.0, 0.01, 0.05), Verdict::Flat);
    assert_eq!(verdict(3600, 0.0, 5.0, 0.05), Verdict::Flat);
    // A slope that this noise may make.
    assert_eq!(verdict(900, 7.0, 19.0, 0.05), Verdict::NotDistinguishable);
    assert_eq!(verdict(500, 300.0, 0.1, 0.05), Verdict::TooShort);
    assert!(Trend::of(&[1.0, 2.0], &[1.0, 2.0], 0.0).is_none());
}
