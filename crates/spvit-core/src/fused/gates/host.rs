//! [`GateOps`] of a few numbers, for which plain operations are enough.

use super::GateOps;
use crate::fused::host::HostAccess;

impl<B: HostAccess> GateOps for B {}
