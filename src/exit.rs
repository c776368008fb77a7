//! What the exit codes of the program `tch-audit` mean.

/// Clean: no policy of level `deny` is violated, and no test of a policy failed.
pub const CLEAN: u8 = 0;
/// Denied: a policy of level `deny` is violated, a notice about the policies has that level, or a test of a policy failed.
pub const DENIED: u8 = 1;
/// Could not judge: the input or the run is wrong. Nothing was judged, or what was found could not be written.
pub const FAILED: u8 = 2;
