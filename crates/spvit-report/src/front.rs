//! Which models are worth having.

/// A model's cost and accuracy.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Point {
    pub cost: f64,
    pub accuracy: f64,
}

impl Point {
    /// Whether this one is at least as good in both and better in one.
    fn dominates(self, other: Self) -> bool {
        let (cheap, right) = (self.cost <= other.cost, self.accuracy >= other.accuracy);
        cheap && right && (self.cost < other.cost || self.accuracy > other.accuracy)
    }
}

/// Of every point, the best that dominates it, if one does: the most accurate, of these the cheapest.
pub(crate) fn dominated(points: &[Option<Point>]) -> Vec<Option<usize>> {
    let by = |own: Point| {
        let others = points.iter().enumerate().filter_map(|(i, other)| Some((i, (*other)?)));
        let better = others.filter(|(_, other)| other.dominates(own));
        let best = better.max_by(|(_, a), (_, b)| {
            a.accuracy.total_cmp(&b.accuracy).then(b.cost.total_cmp(&a.cost))
        });
        best.map(|(index, _)| index)
    };
    points.iter().map(|own| own.and_then(by)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_dominated_by_a_cheaper_one_that_is_no_worse() {
        let point = |cost, accuracy| Some(Point { cost, accuracy });
        let points = [
            point(10.0, 0.92),
            point(6.0, 0.92),
            point(4.0, 0.90),
            point(5.0, 0.89),
            None,
            point(4.0, 0.90),
        ];
        let expected = [Some(1), None, None, Some(2), None, None];
        let found = dominated(&points);
        assert_eq!(found[..3], expected[..3]);
        assert!(matches!(found[3], Some(2 | 5)), "{found:?}");
        assert_eq!(found[4..], expected[4..]);
        assert!(dominated(&[]).is_empty());
    }
}
