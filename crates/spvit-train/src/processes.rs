//! Several processes, on one machine or on many, that train a model together.
//!
//! Each of them does the same, on its own part of every batch. What is not done together (measuring,
//! choosing, pruning, evaluating, writing) is the first one's alone: the others work in folders of their own,
//! which are made like the first one's wherever a phase begins or ends.

use std::{fmt, sync::Arc};

use spvit_data::Peers;

use crate::TrainError;

/// What carries messages between the processes of a run, all of which call the same functions in the same
/// order. Every error is a line that says what went wrong.
pub trait Messages: Peers {
    /// The first process's message; those of the others are not looked at.
    ///
    /// # Errors
    /// If one of them cannot be reached.
    fn first(&self, own: Vec<u8>) -> Result<Vec<u8>, String>;

    /// Replaces values by their sums over all processes, which add up in any order but to the same bits
    /// everywhere.
    ///
    /// # Errors
    /// If one of them cannot be reached.
    fn sum(&self, values: &mut [f32]) -> Result<(), String>;
}

/// The processes of a run, of which this one may be the only one.
#[derive(Clone, Default)]
pub struct Processes(Option<Arc<dyn Messages>>);

impl fmt::Debug for Processes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} of {}", self.rank(), self.count())
    }
}

fn lost(problem: String) -> TrainError {
    TrainError::Processes { problem }
}

impl Processes {
    /// Those that these messages reach.
    pub fn new(messages: Arc<dyn Messages>) -> Self {
        Self(Some(messages).filter(|messages| messages.count() > 1))
    }

    /// Which of them this one is, from 0.
    pub fn rank(&self) -> usize {
        self.0.as_ref().map_or(0, |messages| messages.rank())
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.as_ref().map_or(1, |messages| messages.count())
    }

    /// Whether this is the one that decides and writes.
    pub fn is_first(&self) -> bool {
        self.rank() == 0
    }

    /// All of them, if there are others than this one.
    pub(crate) fn peers(&self) -> Option<Arc<dyn Peers>> {
        Some(self.0.clone()?)
    }

    /// The messages of all, in the order of their ranks.
    pub(crate) fn gather(&self, own: &[u8]) -> Result<Vec<Vec<u8>>, TrainError> {
        match &self.0 {
            Some(messages) => messages.gather(own).map_err(lost),
            None => Ok(vec![own.to_vec()]),
        }
    }

    /// The first one's message.
    pub(crate) fn first(&self, own: Vec<u8>) -> Result<Vec<u8>, TrainError> {
        match &self.0 {
            Some(messages) => messages.first(own).map_err(lost),
            None => Ok(own),
        }
    }

    /// Sums of what all of them counted.
    pub(crate) fn add<const N: usize>(&self, own: [u64; N]) -> Result<[u64; N], TrainError> {
        let message: Vec<u8> = own.iter().flat_map(|number| number.to_le_bytes()).collect();
        let mut sums = [0; N];
        for message in self.gather(&message)? {
            let numbers = message.as_chunks().0.iter();
            for (sum, number) in sums.iter_mut().zip(numbers) {
                *sum += u64::from_le_bytes(*number);
            }
        }
        Ok(sums)
    }

    /// Whether it holds for any of them.
    pub(crate) fn any(&self, own: bool) -> Result<bool, TrainError> {
        match self.0 {
            Some(_) => Ok(self.gather(&[u8::from(own)])?.concat().contains(&1)),
            None => Ok(own),
        }
    }

    /// What the first one says.
    ///
    /// # Errors
    /// [`TrainError::Processes`] if one cannot be reached, as everywhere here.
    pub fn decide(&self, own: bool) -> Result<bool, TrainError> {
        Ok(self.first(vec![u8::from(own)])? == [1])
    }

    /// Sums over all of them; `ordered` if they are to add up in the order of the ranks.
    pub(crate) fn sum(&self, mut values: Vec<f32>, ordered: bool) -> Result<Vec<f32>, TrainError> {
        let Some(messages) = &self.0 else { return Ok(values) };
        // Two values have the same sum in either order.
        if !ordered || messages.count() == 2 {
            messages.sum(&mut values).map_err(lost)?;
            return Ok(values);
        }
        let mut all = messages.gather(&bytes(&values)).map_err(lost)?.into_iter();
        let mut sum = all.next().map_or_else(Vec::new, |first| floats(&first));
        for next in all {
            let next = floats(&next);
            if next.len() != sum.len() {
                return Err(lost("they computed gradients of different parameters".into()));
            }
            sum.iter_mut().zip(next).for_each(|(sum, next)| *sum += next);
        }
        Ok(sum)
    }

    /// That this text is the same in all of them.
    ///
    /// # Errors
    /// [`TrainError::Processes`] naming what differs, and where.
    pub fn alike(&self, what: &str, own: &str) -> Result<(), TrainError> {
        let all = self.gather(own.as_bytes())?;
        let differs = |text: &Vec<u8>| Some(text) != all.first();
        match all.iter().position(differs) {
            Some(rank) => Err(lost(format!(
                "{what} of process {rank} differ from those of process 0; every machine needs the same \
                 program, images and files"
            ))),
            None => Ok(()),
        }
    }
}

/// Values as a message.
pub(crate) fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// A message as values.
pub(crate) fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|value| f32::from_le_bytes(*value)).collect()
}
