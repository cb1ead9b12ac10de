//! RGB pictures: decode, encode, resize, contact sheets, plots.
