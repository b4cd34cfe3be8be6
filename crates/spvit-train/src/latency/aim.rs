//! From what a table says to what a clock says: a target for the table with which the measured time is
//! within the budget.

/// Where in the budget a measured time should lie, as shares of it: it may be at most the budget and 5 %
/// less, and the next measurement of the same model differs by a percent where a pass takes milliseconds.
const LEAST: f64 = 0.96;
const MOST: f64 = 0.99;
const MIDDLE: f64 = 0.975;

/// Models that are measured at most in one search for a target.
const TRIES: usize = 10;

/// After so many, targets are no longer found by lines.
const LINES: usize = 4;

/// Where the table has no model that is small enough, larger targets are tried in such steps, up to so many
/// times the budget.
const STEP: f64 = 1.06;
const HOPELESS: f64 = 1.25;

/// Targets that are so near to each other, as a share, are the same.
const NEAR: f64 = 1e-3;

/// What a target of the table gave.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Try {
    target: f64,
    reached: f64,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Next {
    /// To derive a model at this target, and measure it.
    Target(f64),
    /// To take the model that was measured as the so-many-th, from 0.
    Take(usize),
    /// None of the models that were measured is within the budget.
    Fail,
}

/// A search for a target.
#[derive(Debug, Clone)]
pub struct Aim {
    budget: f64,
    tries: Vec<Try>,
    /// Beyond which targets give nothing: the smallest and the largest model.
    range: [f64; 2],
}

impl Aim {
    /// For a budget in milliseconds; targets from `range[1]` on give the dense model.
    pub fn new(budget: f64, largest: f64) -> Self {
        Self { budget, tries: Vec::new(), range: [0.0, largest] }
    }

    /// Takes what the model of a target took.
    pub fn reached(&mut self, target: f64, reached: f64) {
        self.tries.push(Try { target, reached });
    }

    /// The budget, in milliseconds.
    pub fn budget(&self) -> f64 {
        self.budget
    }

    /// A new search from the so-many-th of the models that were measured, which is its 0th.
    pub fn from(&self, index: usize) -> Self {
        Self { budget: self.budget, tries: vec![self.tries[index]], range: self.range }
    }

    /// Whether the so-many-th model that was measured uses the budget up.
    pub fn is_close(&self, index: usize) -> bool {
        self.tries[index].reached >= LEAST * self.budget
    }

    /// Of the models that were over the budget that of the smallest target, if it is a larger one than the
    /// so-many-th's.
    pub fn over(&self, index: usize) -> Option<usize> {
        let over = |own: &Try| {
            own.reached.is_finite()
                && own.reached > MOST * self.budget
                && own.target > self.tries[index].target
        };
        let all = self.tries.iter().enumerate().filter(|(_, own)| over(own));
        all.min_by(|(_, a), (_, b)| a.target.total_cmp(&b.target)).map(|(index, _)| index)
    }

    /// Takes that no model is as small as a target.
    pub fn too_small(&mut self, target: f64) {
        self.range[0] = self.range[0].max(target);
    }

    /// What to do next.
    pub fn next(&self) -> Next {
        let [goal, least, most] = [MIDDLE, LEAST, MOST].map(|share| share * self.budget);
        let within = |own: &Try| (least..=most).contains(&own.reached);
        if self.tries.last().is_some_and(within) || self.tries.len() >= TRIES {
            return self.best();
        }
        let below = self.tries.iter().filter(|own| own.reached <= goal);
        let below = below.max_by(|a, b| a.target.total_cmp(&b.target)).copied();
        let above = self.tries.iter().filter(|own| own.reached > goal);
        let above = above.min_by(|a, b| a.target.total_cmp(&b.target)).copied();
        let [smallest, largest] = self.range;
        let target = match (below, above) {
            (None, None) if smallest == 0.0 => goal,
            // A table may say too much of the smallest models, but not that much.
            (None, None) if smallest > HOPELESS * self.budget => return self.best(),
            (None, None) => smallest * STEP,
            (Some(one), None) | (None, Some(one)) => {
                one.target * (goal / one.reached).clamp(0.25, 4.0)
            }
            // Where a line is no guide, as at a jump, the middle is.
            (Some(below), Some(above)) if self.tries.len() >= LINES => {
                (below.target * above.target).sqrt()
            }
            (Some(below), Some(above)) => between(below, above, goal),
        };
        let target = match target <= smallest {
            // Half-way to what is known to be possible.
            true => above.map_or(smallest, |above| (smallest * above.target).sqrt()),
            false => target.min(largest),
        };
        let same = |own: &Try| (own.target / target - 1.0).abs() < NEAR;
        match self.tries.iter().any(same) || target <= smallest * (1.0 + NEAR) {
            true => self.best(),
            false => Next::Target(target),
        }
    }

    /// The slowest model that is within the budget, one that is safely so before others.
    fn best(&self) -> Next {
        let fastest = |most: f64| {
            let own = self.tries.iter().enumerate().filter(|(_, own)| own.reached <= most);
            own.max_by(|(_, a), (_, b)| a.reached.total_cmp(&b.reached)).map(|(index, _)| index)
        };
        let found = fastest(MOST * self.budget).or_else(|| fastest(self.budget));
        found.map_or(Next::Fail, Next::Take)
    }
}

/// The target at which a line through two models' logarithms takes the goal, not too near to either.
fn between(below: Try, above: Try, goal: f64) -> f64 {
    if above.target <= below.target {
        // Noise: a larger model was faster.
        return (below.target * above.target).sqrt() * (goal / below.reached).min(1.0);
    }
    let [low, high] = [below, above].map(|own| own.target.ln());
    let [from, to] = [below, above].map(|own| own.reached.ln());
    let share = if to > from { (goal.ln() - from) / (to - from) } else { 0.5 };
    (low + (high - low) * share.clamp(0.15, 0.85)).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Follows a machine on which a model of a target takes `time(target)`; what it ends with, and how
    /// many models were measured.
    fn follow(
        budget: f64,
        [smallest, largest]: [f64; 2],
        time: impl Fn(f64) -> f64,
    ) -> (Option<f64>, usize) {
        let mut aim = Aim::new(budget, largest);
        let mut reached = Vec::new();
        for _ in 0..50 {
            match aim.next() {
                Next::Target(target) if target < smallest => aim.too_small(target),
                Next::Target(target) => {
                    assert!(target <= largest * 1.0001);
                    reached.push(time(target));
                    aim.reached(target, time(target));
                }
                Next::Take(index) => return (Some(reached[index]), reached.len()),
                Next::Fail => return (None, reached.len()),
            }
        }
        panic!("it does not end");
    }

    #[test]
    fn a_table_that_is_off_is_corrected() {
        for factor in [0.7, 0.95, 1.0, 1.3, 2.0] {
            for offset in [-0.2, 0.0, 0.3] {
                let (found, tries) = follow(1.8, [0.1, 5.0], |target| offset + factor * target);
                let share = found.unwrap() / 1.8;
                assert!(
                    (LEAST..=MOST).contains(&share) && tries <= 5,
                    "{factor}: {share}, {tries}"
                );
            }
        }
    }

    /// A machine that takes a fifth longer from some width on.
    #[test]
    fn a_jump_is_not_jumped_over() {
        for at in [1.2, 1.6, 1.75] {
            let time = |target: f64| if target > at { target * 1.2 } else { target };
            let (found, tries) = follow(1.8, [0.1, 5.0], time);
            let found = found.unwrap();
            assert!(found <= 1.8 * MOST, "{at}: {found}");
            // At 1.6 what is before the jump and after it is 1.6 and 1.92.
            let nearest = if at == 1.6 { 1.58 } else { 1.8 * LEAST };
            assert!(found > nearest && tries <= TRIES, "{at}: {found} after {tries}");
        }
    }

    /// The budget lies in a jump, which what is held does not make.
    #[test]
    fn larger_targets_fill_a_jump() {
        let mut aim = Aim::new(1.8, 5.0);
        let mut held = false;
        let mut reached = Vec::new();
        loop {
            match aim.next() {
                Next::Target(target) => {
                    let jumped = if target > 1.6 && !held { 0.4 } else { 0.0 };
                    reached.push(target + jumped);
                    aim.reached(target, target + jumped);
                }
                Next::Take(index) if aim.is_close(index) => break,
                Next::Take(index) => {
                    assert!(!held && reached[index] <= 1.6 && reached[index] > 1.58);
                    let over = aim.over(index).unwrap();
                    assert!(reached[over] >= 2.0 && reached[over] < 2.03);
                    (aim, held) = (aim.from(index), true);
                }
                Next::Fail => panic!("{reached:?}"),
            }
        }
        assert!(held && (1.8 * LEAST..=1.8 * MOST).contains(reached.last().unwrap()));
    }

    #[test]
    fn the_ends_are_the_dense_and_the_smallest_model() {
        assert_eq!(follow(9.0, [0.1, 5.0], |target| 1.1 * target), (Some(5.5), 1));
        let (found, tries) = follow(0.5, [1.0, 5.0], |target| target);
        assert_eq!((found, tries), (None, 0));
        // The table's smallest model takes less than the table says, and just fits.
        let (found, _) = follow(0.9, [1.0, 5.0], |target| 0.8 * target);
        assert!(found.unwrap() <= 0.9 && found.unwrap() > 0.8, "{found:?}");
    }

    /// Steps of a tenth, as where widths are multiples.
    #[test]
    fn coarse_steps_end() {
        let time = |target: f64| (target / 0.2).floor() * 0.2;
        let (found, tries) = follow(1.75, [0.1, 5.0], time);
        assert!((found.unwrap() - 1.6).abs() < 1e-9 && tries <= TRIES, "{found:?} after {tries}");
    }
}
