//! Tensor maps: encoding, refusals, box iteration.
