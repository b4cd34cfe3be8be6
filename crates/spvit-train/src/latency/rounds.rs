//! Timing in turn.

use std::time::Instant;

use spvit_search::Timing;

/// A sample lasts about so many seconds, longer than what else runs on the machine takes of it at a time.
const SAMPLE: f64 = 25e-3;

/// Fewest and most passes of a sample.
const PASSES: [usize; 2] = [3, 40];

/// A pass of so many seconds needs none before it to warm the caches.
const LONG: f64 = 0.1;

/// How long to time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Effort {
    /// Rounds that are always done.
    pub least: usize,
    /// Rounds that are enough.
    pub most: usize,
    /// Seconds after which no further round is begun.
    pub seconds: f64,
}

impl Effort {
    /// For a table.
    pub const TABLE: Self = Self { least: 5, most: 30, seconds: 90.0 };
    /// For what one model takes of another's time, with each of several loads.
    pub const SHARE: Self = Self { least: 5, most: 12, seconds: 12.0 };
}

/// Times `count` models in turn, round by round, so that a change of the machine's speed meets all of
/// them. `pass` computes one of them and says how many seconds it took.
///
/// A sample is the fastest of some passes, as what else the machine does only adds to them, after one that
/// is not timed, as another model has just filled the caches. Before every sample `progress` is told its number and how many there may be; where it says
/// no, `None` is returned. Otherwise seconds, `[model][round]`.
///
/// # Errors
/// The first of a pass.
pub fn in_turn<E>(
    count: usize,
    effort: Effort,
    mut pass: impl FnMut(usize) -> Result<f64, E>,
    mut progress: impl FnMut(usize, usize) -> bool,
) -> Result<Option<Vec<Vec<f64>>>, E> {
    let began = Instant::now();
    let mut passes = Vec::with_capacity(count);
    for model in 0..count {
        if !progress(model, count * (effort.most + 1)) {
            return Ok(None);
        }
        // The first pass of all makes what later ones find.
        pass(model)?;
        let seconds = pass(model)?;
        let enough = (SAMPLE / seconds.max(f64::MIN_POSITIVE)).ceil() as usize;
        let long = seconds >= LONG;
        let [fewest, most] = PASSES;
        passes.push((if long { 1 } else { enough.clamp(fewest, most) }, long));
    }
    let mut times = vec![Vec::new(); count];
    for round in 0..effort.most {
        if round >= effort.least && began.elapsed().as_secs_f64() > effort.seconds {
            break;
        }
        for (model, times) in times.iter_mut().enumerate() {
            if !progress(count * (round + 1) + model, count * (effort.most + 1)) {
                return Ok(None);
            }
            let (passes, long) = passes[model];
            if !long {
                pass(model)?;
            }
            let mut fastest = f64::INFINITY;
            for _ in 0..passes {
                fastest = fastest.min(pass(model)?);
            }
            times.push(fastest);
        }
    }
    Ok(Some(times))
}

/// The median sample of every model, in seconds.
///
/// # Errors
/// The first of a pass.
pub fn medians<E>(
    count: usize,
    effort: Effort,
    pass: impl FnMut(usize) -> Result<f64, E>,
) -> Result<Vec<f64>, E> {
    let times = in_turn(count, effort, pass, |_, _| true)?.unwrap_or_default();
    Ok(times.iter().map(|own| Timing::of(own).median).collect())
}

/// The fastest sample of every model, in seconds.
pub fn fastest(times: &[Vec<f64>]) -> Vec<f64> {
    times.iter().map(|own| own.iter().copied().fold(f64::INFINITY, f64::min)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine that becomes three times as slow half-way, and a sample that something interrupts.
    #[test]
    fn a_change_of_speed_meets_all_models() {
        let mut calls = 0;
        let pass = |model: usize| -> Result<f64, ()> {
            calls += 1;
            // Two calls before the rounds, four in each.
            let slow = if calls > 4 + 8 * 25 { 3.0 } else { 1.0 };
            let interrupted = if calls % 17 == 0 { 1.0 } else { 0.0 };
            Ok([0.2, 0.6][model] * slow + interrupted)
        };
        let effort = Effort { least: 3, most: 50, seconds: 1e9 };
        let times = in_turn(2, effort, pass, |_, _| true).unwrap().unwrap();
        assert_eq!([times[0].len(), times[1].len()], [50, 50]);
        assert!(
            fastest(&times).iter().zip([0.2, 0.6]).all(|(own, real)| (own - real).abs() < 1e-9)
        );
    }

    #[test]
    fn it_ends_early_in_time_after_the_least_rounds_or_where_it_is_told() {
        let effort = Effort { least: 4, most: 1000, seconds: 0.0 };
        let times = in_turn(3, effort, |_| Ok::<_, ()>(1.0), |_, _| true).unwrap().unwrap();
        assert!(times.iter().all(|own| own.len() == 4));
        let stopped = in_turn(3, effort, |_| Ok::<_, ()>(1.0), |done, _| done < 5).unwrap();
        assert_eq!(stopped, None);
        assert_eq!(in_turn(1, effort, |_| Err("broken"), |_, _| true), Err("broken"));
    }
}
