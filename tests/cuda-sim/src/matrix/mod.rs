//! Matrix instructions: fragment layouts and arithmetic.
