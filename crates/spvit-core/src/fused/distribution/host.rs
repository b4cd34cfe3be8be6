//! [`DistributionOps`] of a few numbers, for which plain operations are enough.

use super::DistributionOps;
use crate::fused::host::HostAccess;

impl<B: HostAccess> DistributionOps for B {}
