//! The check for several servers that share a tally. Their log is one, and each counts orders and closes periods in its
//! order at once; but one may show a total a moment later than another has answered it.
//!
//! So a history is checked several times, each time with a part of its responses. An operation whose response is left out
//! may take effect at any time after its invocation, and restricts nothing else:
//!
//! - of what changes the tally, at all servers: orders and closes are linearizable;
//! - of everything at one server, for each of them: its own clients see a single server, which shows what it has answered,
//!   and never goes back. What clients of the others send may show there later than they are answered.
//!
//! Each check compares what every subscriber received with the log, wherever it received that: all of them see one order.

use super::linear::{History, Operation, What, check};

/// Checks a history over so many servers.
pub fn check_nodes(history: &History, nodes: usize) -> Result<(), String> {
    let is_change = |it: &Operation| matches!(it.what, What::Orders(_) | What::KeyReused(_) | What::Closed(..));
    check(&with_responses(history, is_change)).map_err(|why| format!("changes at all servers: {why}"))?;
    for node in 0..nodes {
        let at_node = with_responses(history, |operation| operation.node == node);
        check(&at_node).map_err(|why| format!("at server {node}: {why}"))?;
    }
    Ok(())
}

/// The history without the responses of other operations.
fn with_responses(history: &History, of: impl Fn(&Operation) -> bool) -> History {
    let mut part = history.clone();
    part.operations.iter_mut().filter(|operation| !of(operation)).for_each(|operation| operation.returned = None);
    part
}
