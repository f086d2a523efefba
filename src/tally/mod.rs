//! The pure rules of the tally: amounts, totals, keys, the catalogue, positions. No input or output.

pub mod catalog;
pub mod order;
pub mod position;
