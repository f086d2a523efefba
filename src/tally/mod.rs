//! The pure rules: amounts, totals, keys, the catalogue, positions. No I/O.

pub mod catalog;
pub mod order;
pub mod position;
