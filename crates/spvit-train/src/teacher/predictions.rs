//! A teacher's choices, kept for the next student that sees the same images.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

/// Most bytes that choices may take.
const MOST: usize = 1 << 30;

/// The likeliest class of every image of every micro-batch, by the number of the step and the place of its
/// first image in the batch.
#[derive(Debug, Default)]
pub struct Predictions {
    chosen: Mutex<HashMap<(u64, usize), Vec<u16>>>,
}

impl Predictions {
    /// Room for so many images, those of all epochs; `None` if that is more than memory should hold.
    pub fn of(images: usize) -> Option<Self> {
        images.checked_mul(size_of::<u16>()).filter(|&bytes| bytes <= MOST).map(|_| Self::default())
    }

    /// The choices for `count` images, made by `choose` if they are not known.
    ///
    /// # Errors
    /// Those of `choose`.
    pub fn get(
        &self,
        (step, first, count): (u64, usize, usize),
        choose: impl FnOnce() -> Result<Vec<usize>, String>,
    ) -> Result<Vec<usize>, String> {
        let known = |chosen: &HashMap<(u64, usize), Vec<u16>>| {
            let own = chosen.get(&(step, first)).filter(|own| own.len() == count)?;
            Some(own.iter().map(|&class| usize::from(class)).collect())
        };
        if let Some(own) = known(&self.chosen.lock().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(own);
        }
        let own = choose()?;
        // More classes than fit are not kept.
        if let Ok(small) = own.iter().map(|&class| u16::try_from(class)).collect() {
            let mut chosen = self.chosen.lock().unwrap_or_else(PoisonError::into_inner);
            chosen.insert((step, first), small);
        }
        Ok(own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_is_made_once_for_a_step_and_a_place() {
        let kept = Predictions::of(100).unwrap();
        let made = |key, classes: &[usize]| kept.get(key, || Ok(classes.to_vec())).unwrap();
        assert_eq!(made((0, 0, 2), &[3, 4]), [3, 4]);
        assert_eq!(made((0, 0, 2), &[9, 9]), [3, 4]);
        assert_eq!(made((0, 2, 2), &[5, 6]), [5, 6]);
        assert_eq!(made((1, 0, 2), &[7, 8]), [7, 8]);
        // Another number of images is another batch.
        assert_eq!(made((0, 0, 1), &[1]), [1]);
        let failed = kept.get((2, 0, 1), || Err("out of order".into()));
        assert_eq!(failed, Err("out of order".to_string()));
        assert_eq!(made((2, 0, 1), &[2]), [2]);
        assert!(Predictions::of(usize::MAX).is_none() && Predictions::of(1 << 30).is_none());
    }
}
