//! Repeated augmentation, as timm's `RepeatAugSampler` (Hoffer et al., Augment your batch, 2019).

/// Images of an epoch come in multiples of this, where there are as many.
const ROUND: usize = 256;

/// One place in an epoch's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    /// The image's number.
    pub(crate) index: usize,
    /// How often it has come in this epoch before, unless batches were passed over.
    pub(crate) repeat: u32,
}

/// Places in the order of an epoch of `images` images.
///
/// With repeats, an epoch still has about as many places as there are images, so that most images do not come in it.
pub(crate) fn drawn(images: usize, repeats: usize) -> usize {
    if repeats <= 1 || images < ROUND { images } else { images / ROUND * ROUND }
}

/// Each image of `order` `repeats` times in a row, as far as the epoch goes.
///
/// Several processes that take every n-th place each, as timm's do, see every version of an image once among them.
pub(crate) fn order(order: Vec<usize>, repeats: usize) -> Vec<Member> {
    let (drawn, repeats) = (drawn(order.len(), repeats), repeats.max(1));
    let versions = |index| (0..repeats).map(move |repeat| Member { index, repeat: repeat as u32 });
    order.into_iter().flat_map(versions).take(drawn).collect()
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::augment::cases::cases;

    #[derive(Deserialize)]
    struct Case {
        images: usize,
        repeats: usize,
        processes: usize,
        /// What each process takes.
        orders: Vec<Vec<usize>>,
    }

    #[test]
    fn the_order_is_that_of_timm() {
        for Case { images, repeats, processes, orders } in cases("repeated") {
            let found = order((0..images).collect(), repeats);
            for (process, expected) in orders.into_iter().enumerate() {
                let taken = found.iter().skip(process).step_by(processes);
                let taken: Vec<usize> = taken.map(|member| member.index).collect();
                assert_eq!(taken, expected, "process {process} of {processes}, {images} images");
            }
        }
    }

    #[test]
    fn versions_of_an_image_are_counted() {
        let found = order(vec![4, 2, 0, 1, 3], 3);
        let expected = [(4, 0), (4, 1), (4, 2), (2, 0), (2, 1)];
        let expected = expected.map(|(index, repeat)| Member { index, repeat });
        assert_eq!(found, expected);
        assert!(order(vec![1, 0], 1).iter().all(|member| member.repeat == 0));
    }
}
