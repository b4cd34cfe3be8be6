use std::sync::Arc;

/// Where each token of a sequence comes from in another: a window partition with its shift and
/// padding, the way back, or the neighbours that a merge lays side by side.
///
/// No token is used twice, so that the gradient of a gather is a gather, too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenMap {
    sources: Arc<[Option<u32>]>,
    targets: Arc<[Option<u32>]>,
}

impl TokenMap {
    /// A map from `inputs` tokens; `sources` names the token that each output takes, or none for a
    /// token of zeros.
    ///
    /// # Panics
    /// If a source is not one of the inputs, or is named twice.
    pub fn new(sources: Vec<Option<u32>>, inputs: usize) -> Self {
        let mut targets = vec![None; inputs];
        for (to, source) in (0u32..).zip(&sources) {
            let Some(from) = source else { continue };
            let Some(target) = targets.get_mut(*from as usize) else {
                panic!("token {to} comes from token {from} of {inputs}");
            };
            if let Some(earlier) = target.replace(to) {
                panic!("tokens {earlier} and {to} both come from token {from}");
            }
        }
        Self { sources: sources.into(), targets: targets.into() }
    }

    /// The way back: tokens that no output took become zeros.
    pub fn inverse(&self) -> Self {
        Self { sources: Arc::clone(&self.targets), targets: Arc::clone(&self.sources) }
    }

    /// The token that each output takes.
    pub fn sources(&self) -> &[Option<u32>] {
        &self.sources
    }

    /// Number of tokens that the map reads.
    pub fn inputs(&self) -> usize {
        self.targets.len()
    }

    /// Number of tokens that it gives.
    pub fn outputs(&self) -> usize {
        self.sources.len()
    }
}

#[cfg(test)]
mod tests {
    use super::TokenMap;

    #[test]
    fn the_inverse_goes_back() {
        let map = TokenMap::new(vec![Some(2), None, Some(0)], 4);
        let back = map.inverse();
        assert_eq!(back.sources(), [Some(2), None, Some(0), None]);
        assert_eq!((back.inputs(), back.outputs()), (3, 4));
        assert_eq!(back.inverse(), map);
    }

    #[test]
    #[should_panic(expected = "both come from token 1")]
    fn no_token_is_used_twice() {
        TokenMap::new(vec![Some(1), Some(1)], 2);
    }

    #[test]
    #[should_panic(expected = "token 0 comes from token 2 of 2")]
    fn a_source_is_one_of_the_inputs() {
        TokenMap::new(vec![Some(2)], 2);
    }
}
