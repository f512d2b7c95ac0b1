//! Comparing without branching.

/// 1 if both are the same, else 0.
///
/// eBPF has no instruction that turns a comparison into a value: a compiler makes a branch of it,
/// and a verifier follows both ways, so a dozen comparisons in a row are thousands of paths.
#[inline(always)]
#[cfg(not(target_arch = "bpf"))]
pub fn is_same(a: u64, b: u64) -> u64 {
    u64::from(a == b)
}

/// 1 if both are the same, else 0, by arithmetic. In assembly, because LLVM recognises the
/// arithmetic and would make the comparison of it again.
#[inline(always)]
#[cfg(target_arch = "bpf")]
pub fn is_same(a: u64, b: u64) -> u64 {
    let mut differ = a ^ b;
    // SAFETY: arithmetic on registers.
    unsafe {
        core::arch::asm!(
            "{t} = {d}",
            "{t} = -{t}",
            "{d} |= {t}",
            "{d} >>= 63",
            d = inout(reg) differ,
            t = out(reg) _,
            options(pure, nomem, nostack),
        );
    }
    differ ^ 1
}
