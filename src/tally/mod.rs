//! The pure rules: amounts, totals, keys, the catalogue, positions, spelling. No I/O.

pub mod catalog;
pub mod order;
pub mod position;
pub mod spelling;
