//! Processes that are threads, and send each other messages.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use spvit_data::Peers;

/// One of the processes, with a way to and from each.
pub struct Peer {
    rank: usize,
    to: Vec<Sender<Vec<u8>>>,
    from: Mutex<Vec<Receiver<Vec<u8>>>>,
}

impl Peers for Peer {
    fn rank(&self) -> usize {
        self.rank
    }

    fn count(&self) -> usize {
        self.to.len()
    }

    fn gather(&self, own: &[u8]) -> Result<Vec<Vec<u8>>, String> {
        // One that has ended gets nothing.
        self.to.iter().for_each(|to| drop(to.send(own.to_vec())));
        let from = self.from.lock().unwrap();
        from.iter().map(|from| from.recv().map_err(|_| "one has ended".to_string())).collect()
    }
}

/// Does the same as every one of so many processes; results in order.
pub fn in_each<R: Send>(count: usize, work: impl Fn(Peer) -> R + Sync) -> Vec<R> {
    let mut to: Vec<Vec<_>> = (0..count).map(|_| Vec::new()).collect();
    let mut from: Vec<Vec<_>> = (0..count).map(|_| Vec::new()).collect();
    for to in &mut to {
        for from in &mut from {
            let (sender, receiver) = channel();
            to.push(sender);
            from.push(receiver);
        }
    }
    let peers = to.into_iter().zip(from).enumerate();
    let peers = peers.map(|(rank, (to, from))| Peer { rank, to, from: Mutex::new(from) });
    let work = &work;
    thread::scope(|scope| {
        let threads: Vec<_> = peers.map(|peer| scope.spawn(move || work(peer))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}
