//! Publications that wait for the fan-out thread. Owns how they are merged when there are too many.

use std::collections::HashMap;

use crate::tally::order::Publication;

/// A publication that waits.
#[derive(Debug, Clone, Copy)]
pub struct Waiting {
    /// The latest of its product.
    pub publication: Publication,
    /// The number of earlier ones of its product that it replaces.
    pub merged: u64,
}

/// Keeps the last publication of each product, in the order of those last ones.
pub fn merge(waiting: &mut Vec<Waiting>) {
    let mut merged_later = HashMap::new();
    let mut kept: Vec<Waiting> = Vec::new();
    for Waiting { publication, merged } in waiting.drain(..).rev() {
        match merged_later.get(&publication.product) {
            Some(&at) => {
                let last: &mut Waiting = &mut kept[at];
                last.merged += merged + 1;
            }
            None => {
                merged_later.insert(publication.product, kept.len());
                kept.push(Waiting { publication, merged });
            }
        }
    }
    kept.reverse();
    *waiting = kept;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tally::catalog::ProductIndex;
    use crate::tally::order::Total;

    fn waiting(product: u32, total: i64) -> Waiting {
        let publication = Publication { product: ProductIndex(product), total: Total::new(total).unwrap(), seq: 0 };
        Waiting { publication, merged: 0 }
    }

    #[test]
    fn merging_keeps_the_latest_total_of_each_product_and_counts_the_rest() {
        let mut list = vec![waiting(0, 1), waiting(1, 5), waiting(0, 2), waiting(2, 9), waiting(0, 3)];
        merge(&mut list);
        let seen: Vec<_> = list
            .iter()
            .map(|Waiting { publication, merged }| (publication.product.0, publication.total.get(), *merged))
            .collect();
        assert_eq!(seen, [(1, 5, 0), (2, 9, 0), (0, 3, 2)]);
        list.push(waiting(0, 4));
        merge(&mut list);
        assert_eq!(list.last().map(|last| (last.publication.total.get(), last.merged)), Some((4, 3)));
    }
}
