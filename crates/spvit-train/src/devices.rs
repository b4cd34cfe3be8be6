//! Several devices, each of which computes a part of every batch: those of this process, and those of the
//! processes that it was started with.
//!
//! Within a process gradients are exchanged by `burn-collective`, between threads and without a network. It
//! sums what it is given in an order of its own, so that on the processor, where one seed gives one result,
//! more than two tensors are sent to all and summed in the devices' order.

use std::sync::Arc;

use burn::tensor::{Tensor, backend::Backend};
use spvit_core::TrainBackend;

use crate::{Processes, TrainError, micro_batch::Cut, optim::Gradients};

/// The devices that train a model together.
pub struct Devices<B: TrainBackend> {
    first: B::Device,
    others: Vec<B::Device>,
    engine: Option<Arc<engine::Engine<B::InnerBackend>>>,
    processes: Processes,
}

impl<B: TrainBackend> Clone for Devices<B> {
    fn clone(&self) -> Self {
        let Self { first, others, engine, processes } = self;
        let (first, others) = (first.clone(), others.clone());
        Self { first, others, engine: engine.clone(), processes: processes.clone() }
    }
}

/// Whether sums are to have the same bits in every run.
fn ordered<B: Backend>(device: &B::Device) -> bool {
    ["flex", "ndarray"].contains(&B::name(device).as_str())
}

impl<B: TrainBackend> Devices<B> {
    /// A device alone.
    pub fn one(device: &B::Device) -> Self {
        let processes = Processes::default();
        Self { first: device.clone(), others: Vec::new(), engine: None, processes }
    }

    /// The first, which also does what is not done together, and the others.
    ///
    /// # Errors
    /// [`TrainError::Devices`] if this crate was built without its feature `devices`, or if others of the
    /// same backend are in use together in this process already.
    pub fn new(first: B::Device, others: Vec<B::Device>) -> Result<Self, TrainError> {
        if others.is_empty() {
            return Ok(Self::one(&first));
        }
        let all: Vec<_> = std::iter::once(&first).chain(&others).cloned().collect();
        let engine = engine::Engine::new(all).map_err(|problem| TrainError::Devices { problem })?;
        Ok(Self { engine: Some(Arc::new(engine)), others, ..Self::one(&first) })
    }

    /// These, and those that the other processes have, as many each.
    pub fn among(self, processes: Processes) -> Self {
        Self { processes, ..self }
    }

    /// Those of this process alone.
    pub(crate) fn here(&self) -> Self {
        self.clone().among(Processes::default())
    }

    /// The processes that train together.
    pub fn processes(&self) -> &Processes {
        &self.processes
    }

    /// The one that does what is not done together.
    pub fn first(&self) -> &B::Device {
        &self.first
    }

    /// All of this process but the first.
    pub fn others(&self) -> &[B::Device] {
        &self.others
    }

    /// How many there are in all processes.
    pub fn count(&self) -> usize {
        (1 + self.others.len()) * self.processes.count()
    }

    /// How they cut a batch.
    pub(crate) fn cut(&self, micro_batches: usize, accumulate: usize) -> Cut {
        let each = micro_batches.max(1).saturating_mul(accumulate);
        let process = (self.processes.rank(), self.processes.count());
        Cut { each, devices: 1 + self.others.len(), process }
    }

    /// The sums over all devices of every group's gradients, on each device of this process. A device that
    /// computed none gives nothing, but for the first.
    pub(crate) fn sum(
        &self,
        groups: Vec<Vec<Gradients<B::InnerBackend>>>,
    ) -> Result<Vec<Vec<Gradients<B::InnerBackend>>>, TrainError> {
        if self.count() == 1 {
            return Ok(groups);
        }
        // Which parameters a loss reaches is the same everywhere: gates are.
        let sized = |group: &Gradients<B::InnerBackend>| -> Vec<_> {
            let ids = group.ids().iter();
            ids.filter_map(|&id| Some((id, group.get(id)?.dims()[0]))).collect()
        };
        let like: Vec<Vec<_>> = groups.first().into_iter().flatten().map(sized).collect();
        if like.iter().all(Vec::is_empty) {
            return Ok(groups);
        }
        let devices = std::iter::once(&self.first).chain(&self.others);
        let flat = groups.iter().zip(devices).map(|(groups, device)| {
            let parts = like.iter().enumerate().flat_map(|(index, sized)| {
                let group = groups.get(index);
                sized.iter().map(move |&(id, size)| {
                    let own = group.and_then(|group| group.get(id));
                    own.unwrap_or_else(|| Tensor::zeros([size], device))
                })
            });
            Tensor::cat(parts.collect(), 0)
        });
        let flat = flat.collect();
        let summed = match &self.engine {
            Some(engine) => engine.sum(flat).map_err(|problem| TrainError::Devices { problem })?,
            None => flat,
        };
        let summed = self.over_processes(summed)?;
        let apart = |flat: Tensor<B::InnerBackend, 1>| {
            let mut start = 0;
            let mut next = |size: usize| {
                start += size;
                flat.clone().narrow(0, start - size, size)
            };
            let group = |sized: &Vec<_>| {
                Gradients::of_values(sized.iter().map(|&(id, size)| (id, next(size))))
            };
            like.iter().map(group).collect()
        };
        Ok(summed.into_iter().map(apart).collect())
    }

    /// Sums over the processes of what all devices of this one have alike.
    fn over_processes(
        &self,
        mut own: Vec<Tensor<B::InnerBackend, 1>>,
    ) -> Result<Vec<Tensor<B::InnerBackend, 1>>, TrainError> {
        if self.processes.count() == 1 || own.is_empty() {
            return Ok(own);
        }
        let values = own.swap_remove(0).into_data().convert::<f32>().into_vec::<f32>();
        let values = values
            .map_err(|error| TrainError::Processes { problem: format!("gradients: {error}") })?;
        let values = self.processes.sum(values, ordered::<B::InnerBackend>(&self.first))?;
        let devices = std::iter::once(&self.first).chain(&self.others);
        Ok(devices.map(|device| Tensor::from_floats(&values[..], device)).collect())
    }
}

#[cfg(feature = "devices")]
mod engine {
    use std::{
        any::TypeId,
        collections::BTreeSet,
        sync::{Mutex, PoisonError},
    };

    use burn::tensor::TensorPrimitive;
    use burn_collective::{
        CollectiveConfig, CollectiveError, PeerId, ReduceOperation, all_reduce, broadcast,
        finish_collective, register,
    };

    use super::{Backend, Tensor};
    use crate::micro_batch;

    /// Backends whose devices are in use together: the library has one session for each.
    static IN_USE: Mutex<BTreeSet<TypeId>> = Mutex::new(BTreeSet::new());

    fn in_use() -> std::sync::MutexGuard<'static, BTreeSet<TypeId>> {
        IN_USE.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub struct Engine<B: Backend> {
        peers: Vec<PeerId>,
        /// Whether sums are to have the same bits in every run.
        ordered: bool,
        backend: std::marker::PhantomData<fn() -> B>,
    }

    fn line(error: CollectiveError) -> String {
        format!("{error:?}")
    }

    impl<B: Backend> Engine<B> {
        pub fn new(devices: Vec<B::Device>) -> Result<Self, String> {
            if !in_use().insert(TypeId::of::<B>()) {
                return Err("others are in use together in this process already".into());
            }
            let count = devices.len();
            let ordered = devices.first().is_some_and(super::ordered::<B>);
            let own = Self {
                peers: (0..count).map(PeerId::from).collect(),
                ordered: ordered && count > 2,
                backend: std::marker::PhantomData,
            };
            let config = CollectiveConfig::default().with_num_devices(count);
            // Everybody waits until all are there.
            let jobs = own.peers.iter().copied().zip(devices).collect();
            own.each(jobs, |(id, device)| register::<B>(id, device, config.clone()))?;
            Ok(own)
        }

        /// Does something as every peer at the same time.
        fn each<T: Send, R: Send>(
            &self,
            jobs: Vec<T>,
            work: impl Fn(T) -> Result<R, CollectiveError> + Sync,
        ) -> Result<Vec<R>, String> {
            let mut jobs = jobs.into_iter();
            let Some(first) = jobs.next() else { return Ok(Vec::new()) };
            let done = micro_batch::at_once(|| work(first), jobs.collect(), &work);
            done.into_iter().collect::<Result<_, _>>().map_err(line)
        }

        /// The sum of all tensors on the device of each.
        pub fn sum(&self, tensors: Vec<Tensor<B, 1>>) -> Result<Vec<Tensor<B, 1>>, String> {
            let jobs = self.peers.iter().copied().zip(tensors).collect();
            let wrap = |sum| Tensor::from_primitive(TensorPrimitive::Float(sum));
            self.each(jobs, |(id, own): (PeerId, Tensor<B, 1>)| {
                let own = own.into_primitive().tensor();
                if !self.ordered {
                    return all_reduce::<B>(id, own, ReduceOperation::Sum).map(wrap);
                }
                let mut sum: Option<Tensor<B, 1>> = None;
                for &from in &self.peers {
                    let next = broadcast::<B>(id, (from == id).then(|| own.clone())).map(wrap)?;
                    sum = Some(match sum {
                        Some(sum) => sum + next,
                        None => next,
                    });
                }
                Ok(sum.unwrap_or_else(|| wrap(own)))
            })
        }
    }

    impl<B: Backend> Drop for Engine<B> {
        fn drop(&mut self) {
            for &id in &self.peers {
                let _ = finish_collective::<B>(id);
            }
            in_use().remove(&TypeId::of::<B>());
        }
    }
}

#[cfg(not(feature = "devices"))]
mod engine {
    use super::{Backend, Tensor};

    /// Nothing can be made of it.
    pub struct Engine<B: Backend>(std::convert::Infallible, std::marker::PhantomData<fn() -> B>);

    impl<B: Backend> Engine<B> {
        pub fn new(_devices: Vec<B::Device>) -> Result<Self, String> {
            Err("this spvit was built without it; build with `--features devices`".into())
        }

        pub fn sum(&self, _tensors: Vec<Tensor<B, 1>>) -> Result<Vec<Tensor<B, 1>>, String> {
            match self.0 {}
        }
    }
}
