//! What one server tells another one that follows it.

use super::order::Total;
use super::position::RunList;

/// What a server begins from that follows another one, beside the catalogue; all of it as it is after the same order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EdgeStart {
    /// The total of each product, hidden ones too.
    pub totals: Vec<Total>,
    /// The total of each product when the current period was opened.
    pub openings: Vec<Total>,
    /// The sequence number of the last entry of the log before that.
    pub opened_after: u64,
    /// The same of periods before it, oldest first, as far as they are known.
    pub opened_before: Vec<u64>,
    /// The sequence number of the last order.
    pub last_seq: u64,
    /// The sequence number of the last order before a product was last shown again.
    pub shown_after: Option<u64>,
    /// The runs whose positions are valid.
    pub runs: RunList,
    /// The number of the last change of the catalogue or period that it has.
    pub news: u64,
}
