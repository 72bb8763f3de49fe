//! Instructions of ring 0 that kernels use and that some hosts' KVM cannot run by itself.

use crate::Case;

pub fn cases() -> Vec<Case> {
    vec![]
}
