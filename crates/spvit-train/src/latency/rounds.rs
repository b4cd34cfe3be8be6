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
    /// Standard error, as a share, at which what every model takes of the first one's time is known well
    /// enough; 0 for none.
    pub sure: f64,
}

impl Effort {
    /// For a table.
    pub const TABLE: Self = Self { least: 5, most: 30, seconds: 90.0, sure: 0.0 };
    /// For what one model takes of another's time.
    pub const SHARE: Self = Self { least: 15, most: 300, seconds: 60.0, sure: 4e-3 };
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
        let late =
            || began.elapsed().as_secs_f64() > effort.seconds || is_sure(&times, effort.sure);
        if round >= effort.least && late() {
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

/// Round by round, what a model takes of the first one's time.
pub fn shares(times: &[Vec<f64>], model: usize) -> Vec<f64> {
    let pairs = times[model].iter().zip(&times[0]);
    pairs.map(|(own, first)| own / first).collect()
}

/// Whether every model's share of the first one's time is known to within `sure`. The error is that of
/// a median, by its quartiles, which interrupts do not move.
fn is_sure(times: &[Vec<f64>], sure: f64) -> bool {
    let error = |model: usize| {
        let shares = shares(times, model);
        let Timing { median, lower, upper } = Timing::of(&shares);
        let deviation = (upper - lower) / 1.349;
        1.2533 * deviation / (shares.len() as f64).sqrt() / median
    };
    sure > 0.0 && (1..times.len()).all(|model| error(model) < sure)
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
        let effort = Effort { least: 3, most: 50, seconds: 1e9, sure: 0.0 };
        let times = in_turn(2, effort, pass, |_, _| true).unwrap().unwrap();
        assert_eq!([times[0].len(), times[1].len()], [50, 50]);
        assert!((Timing::of(&shares(&times, 1)).median - 3.0).abs() < 1e-9);
    }

    #[test]
    fn it_ends_when_a_share_is_known() {
        let effort = Effort { least: 5, most: 1000, seconds: 1e9, sure: 0.01 };
        let rounds = |noise: f64| {
            let mut calls = 0_u32;
            let pass = |model: usize| {
                calls += 1;
                Ok::<_, ()>(
                    1.0 + model as f64 * (1.0 + noise * f64::from(calls * 37 % 101) / 101.0),
                )
            };
            in_turn(2, effort, pass, |_, _| true).unwrap().unwrap()[0].len()
        };
        assert_eq!(rounds(0.0), 5);
        let [few, many] = [0.1, 0.5].map(rounds);
        assert!(5 <= few && few < many && many < 1000, "{few} and {many} rounds");
    }

    #[test]
    fn it_ends_early_in_time_after_the_least_rounds_or_where_it_is_told() {
        let effort = Effort { least: 4, most: 1000, seconds: 0.0, sure: 0.0 };
        let times = in_turn(3, effort, |_| Ok::<_, ()>(1.0), |_, _| true).unwrap().unwrap();
        assert!(times.iter().all(|own| own.len() == 4));
        let stopped = in_turn(3, effort, |_| Ok::<_, ()>(1.0), |done, _| done < 5).unwrap();
        assert_eq!(stopped, None);
        assert_eq!(in_turn(1, effort, |_| Err("broken"), |_, _| true), Err("broken"));
    }
}
