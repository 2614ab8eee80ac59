//! What a process is told about how it runs, kept and reported: priorities and the small switches of prctl(2).

/// One process's settings; a child inherits them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tuning {
    /// Nice value, -20 to 19. See nice(2).
    pub nice: i8,
}
