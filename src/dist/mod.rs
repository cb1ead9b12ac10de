//! Which rank of how many this process is.
