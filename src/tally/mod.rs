//! The pure rules: amounts, totals, keys, the catalogue, periods, positions, rates, times, spelling, counters. No I/O.

pub mod catalog;
pub mod edge;
pub mod metric;
pub mod order;
pub mod period;
pub mod position;
pub mod product_patch;
pub mod rates;
pub mod rfc3339;
pub mod spelling;
mod texts;
