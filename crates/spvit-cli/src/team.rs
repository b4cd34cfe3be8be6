//! Processes that `mpirun`, or a cluster's scheduler, has started together.

#[cfg(feature = "mpi")]
mod world;

use std::cell::Cell;

use spvit_train::Processes;

use crate::failure::Failure;

/// How launchers tell a process how many there are: Open MPI, MPICH and Intel's, MVAPICH, Slurm's.
const COUNTS: [&str; 4] =
    ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS"];

/// This process among those that it was started with.
#[derive(Default)]
pub struct Team {
    pub processes: Processes,
    /// Which of those on this machine it is, from 0, and how many these are.
    pub here: (usize, usize),
    /// Whether the first one has told the others that there is something to do.
    begun: Cell<bool>,
    #[cfg(feature = "mpi")]
    world: Option<world::World>,
}

impl Team {
    /// Finds the others, if there are any.
    pub fn join() -> Result<Self, Failure> {
        let told = COUNTS.iter().filter_map(|name| std::env::var(name).ok()?.parse().ok());
        match told.max().unwrap_or(1_usize) {
            0 | 1 => Ok(Self { here: (0, 1), ..Self::default() }),
            count => Self::of(count),
        }
    }

    #[cfg(not(feature = "mpi"))]
    fn of(count: usize) -> Result<Self, Failure> {
        Err(Failure::usage(format!(
            "{count} processes were started together, and this spvit was built without it: build with \
             `--features mpi`, or start one"
        )))
    }

    #[cfg(feature = "mpi")]
    fn of(count: usize) -> Result<Self, Failure> {
        let (world, messages, here) = world::World::join(count)?;
        let processes = Processes::new(std::sync::Arc::new(messages));
        Ok(Self { processes, here, world: Some(world), ..Self::default() })
    }

    /// Whether there is anything to do, which the first one says; the others wait for it.
    pub fn begin(&self, begins: bool) -> Result<bool, Failure> {
        self.begun.set(true);
        Ok(self.processes.decide(begins)?)
    }

    /// Ends: where nothing was begun, without the others having done anything. What failed later is left to
    /// the launcher, which ends all.
    pub fn end(self, failed: bool) -> Result<(), Failure> {
        match (self.begun.get(), failed) {
            (false, _) => self.begin(false).map(|_| ()),
            (true, true) => {
                self.abandon();
                Ok(())
            }
            (true, false) => Ok(()),
        }
    }

    fn abandon(self) {
        #[cfg(feature = "mpi")]
        if let Some(world) = self.world {
            world.abandon();
        }
    }
}
