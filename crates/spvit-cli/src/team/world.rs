//! Messages by MPI.

use std::ffi::c_int;

use mpi::{
    Threading, collective::SystemOperation, datatype::PartitionMut, environment::Universe,
    topology::SimpleCommunicator, traits::*,
};
use spvit_data::Peers;
use spvit_train::Messages;

use crate::failure::Failure;

/// Values, or bytes, of one call: MPI counts in 32 bits with a sign.
const PIECE: usize = 1 << 26;

/// MPI between its beginning and its end.
pub struct World(Universe);

/// All processes that were started together.
pub struct All {
    rank: usize,
    count: usize,
}

impl World {
    /// Begins; gives the messages of all, and which of those on this machine this one is.
    pub fn join(told: usize) -> Result<(Self, All, (usize, usize)), Failure> {
        // One thread at a time sends, and not always the same.
        let began = mpi::initialize_with_threading(Threading::Serialized);
        let Some((universe, provided)) = began else {
            return Err(Failure::run("MPI cannot be begun: it is in use already"));
        };
        if provided < Threading::Serialized {
            return Err(Failure::run(
                "this MPI lets only its first thread send messages; it was built without threads",
            ));
        }
        let world = universe.world();
        let all = All { rank: of(world.rank()), count: of(world.size()) };
        if all.count == 1 {
            return Err(Failure::run(format!(
                "{told} processes were started together, and MPI finds one: start them with the mpirun of \
                 the library that spvit was built with"
            )));
        }
        let machine = world.split_shared(world.rank());
        let here = (of(machine.rank()), of(machine.size()));
        Ok((Self(universe), all, here))
    }

    /// Without waiting for the others, as MPI's end does.
    pub fn abandon(self) {
        std::mem::forget(self.0);
    }
}

fn of(number: c_int) -> usize {
    usize::try_from(number).unwrap_or_default()
}

fn world() -> SimpleCommunicator {
    SimpleCommunicator::world()
}

// MPI itself ends all processes where one cannot be reached.
impl Peers for All {
    fn rank(&self) -> usize {
        self.rank
    }

    fn count(&self) -> usize {
        self.count
    }

    fn gather(&self, own: &[u8]) -> Result<Vec<Vec<u8>>, String> {
        let mut lengths = vec![0_u64; self.count];
        world().all_gather_into(&(own.len() as u64), &mut lengths[..]);
        let mut all = vec![Vec::new(); self.count];
        let piece = PIECE / self.count;
        let longest = lengths.iter().copied().max().unwrap_or(0) as usize;
        for start in (0..longest).step_by(piece) {
            let part = |length: usize| start.min(length)..(start + piece).min(length);
            let counts: Vec<c_int> =
                lengths.iter().map(|&length| part(length as usize).len() as c_int).collect();
            let ends = counts.iter().scan(0, |end, count| {
                *end += count;
                Some(*end)
            });
            let starts: Vec<c_int> = ends.zip(&counts).map(|(end, count)| end - count).collect();
            let mut together = vec![0_u8; counts.iter().map(|&count| of(count)).sum()];
            let mut parts = PartitionMut::new(&mut together[..], &counts[..], &starts[..]);
            world().all_gather_varcount_into(&own[part(own.len())], &mut parts);
            for ((all, &start), &count) in all.iter_mut().zip(&starts).zip(&counts) {
                all.extend_from_slice(&together[of(start)..of(start) + of(count)]);
            }
        }
        Ok(all)
    }
}

impl Messages for All {
    fn first(&self, mut own: Vec<u8>) -> Result<Vec<u8>, String> {
        let first = world();
        let first = first.process_at_rank(0);
        let mut length = own.len() as u64;
        first.broadcast_into(&mut length);
        own.resize(length as usize, 0);
        own.chunks_mut(PIECE).for_each(|piece| first.broadcast_into(piece));
        Ok(own)
    }

    fn sum(&self, values: &mut [f32]) -> Result<(), String> {
        for piece in values.chunks_mut(PIECE) {
            let own = piece.to_vec();
            world().all_reduce_into(&own[..], piece, SystemOperation::sum());
        }
        Ok(())
    }
}
