//! The ledger on an engine whose store other servers change too: what is published when.

use super::*;

/// What others have committed comes over a channel. An own order of 13 pieces is rejected with its commit, one of 14
/// makes the outcome of its commit unknown.
struct SharedEngine {
    others: Receiver<Update>,
    pending: Vec<Amount>,
    total: Total,
    seq: u64,
    /// Is told how many orders each commit has, and says when it ends.
    commits: Option<(Sender<usize>, Receiver<()>)>,
    gathers_until: Option<Instant>,
}

impl SharedEngine {
    fn new(others: Receiver<Update>) -> Self {
        Self { others, pending: Vec::new(), total: Total::default(), seq: 0, commits: None, gathers_until: None }
    }

    fn take_others(&mut self, updates: &mut Vec<Update>) {
        for update in self.others.try_iter() {
            if let Update::Order { publication, .. } = &update {
                (self.total, self.seq) = (publication.total, publication.seq);
            }
            updates.push(update);
        }
    }
}

impl Engine for SharedEngine {
    fn count(&mut self, request: Request, _: &mut Monitor) -> Result<Counted, Rejection> {
        let Request::Order(order) = request else { return Err(Rejection::Hidden) };
        self.pending.push(order.amount);
        Ok(Counted::InCommit)
    }

    fn pending(&self) -> usize {
        self.pending.len()
    }

    fn commit(
        &mut self,
        outcomes: &mut [Outcome],
        updates: &mut Vec<Update>,
        monitor: &mut Monitor,
    ) -> Result<Committed, Rejection> {
        let own = std::mem::take(&mut self.pending);
        if let Some((begun, ends)) = &self.commits {
            begun.send(own.len()).expect("the test listens");
            ends.recv().expect("the test says when it ends");
        }
        let is_unknown = own.contains(&amount(14));
        monitor.commit(|| if is_unknown { Err(StoreError::Unknown("".into())) } else { Ok(()) })?;
        self.take_others(updates);
        let mut orders = 0;
        for (amount, outcome) in own.into_iter().zip(outcomes) {
            if amount.get() == 13 {
                *outcome = Err(Rejection::KeyReused);
                continue;
            }
            orders += 1;
            updates.push(ordered(self.seq + 1, self.total.get() + amount.get(), amount));
            (self.total, self.seq) = (self.total.plus(amount).unwrap(), self.seq + 1);
        }
        Ok(Committed { orders, repeats: 0 })
    }

    fn gathers_until(&self) -> Option<Instant> {
        self.gathers_until
    }

    fn change_catalog(&mut self, _: CatalogChange, updates: &mut Vec<Update>, _: &mut Monitor) -> Outcome {
        self.take_others(updates);
        Err(Rejection::Hidden)
    }

    fn close_period(&mut self, _: u64, _: &mut Vec<Update>, _: &mut Monitor) -> Result<Report, Rejection> {
        Err(Rejection::Hidden)
    }

    fn follow(&mut self, updates: &mut Vec<Update>, _: &mut Monitor) {
        self.take_others(updates);
    }

    fn probe(&mut self, monitor: &mut Monitor) -> Outcome {
        monitor.probe(|| Ok(()))
    }

    fn inspect(&mut self, monitor: &mut Monitor) -> Outcome {
        monitor.inspect(|| Ok(()))
    }

    fn rest(&mut self) -> Rest {
        Rest::Done
    }

    fn measure(&mut self) -> Figures {
        Figures::default()
    }

    fn close(&mut self) {}
}

/// An order of the only product.
fn ordered(seq: u64, total: i64, amount: Amount) -> Update {
    let publication = Publication { product: ProductIndex(0), total: Total::new(total).unwrap(), seq };
    Update::Order { publication, at_ms: now_ms(), amount }
}

fn submit(handle: &LedgerHandle, pieces: i64) -> Receiver<Outcome> {
    let (reply, outcome) = Reply::channel();
    handle.submit(order(pieces, None), reply);
    outcome
}

#[test]
fn what_other_servers_commit_is_published_in_order_and_before_the_answers_to_later_orders() {
    let fanout = one_product().1;
    let (others_sender, others) = bounded(8);
    let rates = Rates::new(vec![None], 0);
    let engine = SharedEngine::new(others);
    let (handle, _thread) = start(engine, Arc::default(), fanout.clone(), rates.clone(), ()).unwrap();
    let submit = |pieces| submit(&handle, pieces);
    let total = || fanout.all_totals().unwrap()[0].get();
    let counted = || rates.read(&[ProductIndex(0)], rates.last_minute(now_ms())).remove(0).amounts.iter().sum::<i64>();
    // A ping is enough: nothing has to be ordered here.
    others_sender.send(ordered(1, 5, amount(5))).unwrap();
    let (period, openings) = (Period { number: 2, opened_ms: 1, opened_after: 1 }, vec![Total::new(5).unwrap()]);
    others_sender.send(Update::Period(Arc::new(CurrentPeriod { period, openings }))).unwrap();
    let begun = Instant::now();
    while handle.current_period().period.number == 1 {
        assert!(handle.answers(Instant::now() + DEADLINE) && begun.elapsed() < DEADLINE, "it is not followed");
    }
    assert_eq!((fanout.last_seq(), total(), counted()), (1, 5, 5));
    // The order of another server that came before an own one is published with it, and not counted as an own one.
    others_sender.send(ordered(2, 7, amount(2))).unwrap();
    assert_eq!(received(&submit(3)), Ok(()));
    assert_eq!((fanout.last_seq(), total(), counted(), handle.counters().orders.get()), (3, 10, 10, 1));
    // Also when the own one is rejected, or nothing of a request was changed.
    others_sender.send(ordered(4, 11, amount(1))).unwrap();
    assert_eq!(received(&submit(13)), Err(Rejection::KeyReused));
    assert_eq!((fanout.last_seq(), total(), counted(), handle.counters().orders.get()), (4, 11, 11, 1));
    others_sender.send(ordered(5, 13, amount(2))).unwrap();
    let change = CatalogChange::SetTitle(CategoryIndex(0), "Tools".into());
    assert_eq!(handle.change_catalog(change), Err(Rejection::Hidden));
    assert_eq!((fanout.last_seq(), total(), counted()), (5, 13, 13));
    assert_eq!(received(&submit(14)), Err(Rejection::Unknown));
    assert_eq!((fanout.last_seq(), total(), counted()), (5, 13, 13));
}

#[test]
fn a_commit_waits_for_as_many_requests_as_are_expected_and_no_longer_than_the_engine_says() {
    for patience in [Some(DEADLINE), Some(Duration::ZERO), None] {
        let ((begun_sender, begun), (ends, ends_receiver)) = (bounded(1), bounded(1));
        let mut engine = SharedEngine::new(bounded(0).1);
        engine.commits = Some((begun_sender, ends_receiver));
        engine.gathers_until = patience.map(|patience| Instant::now() + patience);
        let (fanout, rates) = (one_product().1, Rates::new(vec![None], 0));
        let (handle, _thread) = start(engine, Arc::default(), fanout, rates, ()).unwrap();
        let commit_begins = || begun.recv_timeout(DEADLINE).expect("a commit begins");
        let first = submit(&handle, 1);
        assert_eq!(commit_begins(), 1, "{patience:?}: nothing was expected");
        let (second, third) = (submit(&handle, 1), submit(&handle, 1));
        ends.send(()).unwrap();
        assert_eq!(received(&first), Ok(()));
        // Those two wait, and a client that has its answer may have another order.
        if patience == Some(DEADLINE) {
            assert!(handle.answers(Instant::now() + DEADLINE), "it does other jobs meanwhile");
            assert!(begun.is_empty() && second.is_empty(), "a commit has begun without the third request");
            let fourth = submit(&handle, 1);
            assert_eq!(commit_begins(), 3);
            ends.send(()).unwrap();
            assert_eq!(received(&fourth), Ok(()));
        } else {
            assert_eq!(commit_begins(), 2, "{patience:?}");
            ends.send(()).unwrap();
        }
        assert_eq!((received(&second), received(&third)), (Ok(()), Ok(())), "{patience:?}");
    }
}
