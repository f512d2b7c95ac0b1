//! Shared structures as map keys and values.

/// A structure of `faultbox-common` for aya, whose `Pod` that crate cannot implement.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(in crate::engine) struct Plain<T>(pub(in crate::engine) T);

// SAFETY: used only with the `repr(C)` structures of `faultbox-common`, which consist of
// integers and have no padding: `rule.rs` and `layout.rs` fill it by hand.
unsafe impl<T: Copy + 'static> aya::Pod for Plain<T> {}
