//! `ordercast.commit`: the rules of the ledger in the database, against a model of them in Rust.

use std::collections::{BTreeSet, HashMap};
use std::thread;

use ordercast::internal::store::postgres::{Param, PgError, Row, Session};

use crate::common::{Cluster, Random, seed};
use crate::{connect, later, migrated};

/// The outcomes of a request.
const COUNTED: i16 = 0;
const REPEATED: i16 = 1;
const KEY_REUSED: i16 = 2;
const HIDDEN: i16 = 3;
const OUT_OF_RANGE: i16 = 4;
const KEYS_FULL: i16 = 5;

const MAX_TOTAL: i64 = (1 << 53) - 1;
const PRODUCTS: i32 = 10;
const HIDDEN_PRODUCT: i32 = 9;
/// More lines than any commit here has.
const MOST: i32 = 10_000;

#[derive(Clone, Debug)]
struct Order {
    product: i32,
    amount: i64,
    key: Option<String>,
}

#[derive(Clone, Debug)]
struct Request {
    orders: Vec<Order>,
    /// The digest of a batch.
    digest: Option<i64>,
    key: Option<String>,
}

fn order(product: i32, amount: i64, key: &str) -> Order {
    Order { product, amount, key: (!key.is_empty()).then(|| key.to_owned()) }
}

fn single(product: i32, amount: i64, key: &str) -> Request {
    Request { orders: vec![order(product, amount, key)], digest: None, key: None }
}

fn batch(orders: &[Order], digest: i64, key: &str) -> Request {
    let key = (!key.is_empty()).then(|| key.to_owned());
    Request { orders: orders.to_vec(), digest: Some(digest), key }
}

/// Calls the function, which is to return what was committed after `since`.
fn call(session: &mut Session, node: i64, number: i64, since: i64, requests: &[Request]) -> Result<Row, PgError> {
    let orders: Vec<_> = requests.iter().flat_map(|request| &request.orders).collect();
    let products: Vec<_> = orders.iter().map(|order| order.product).collect();
    let amounts: Vec<_> = orders.iter().map(|order| order.amount).collect();
    let keys: Vec<_> = orders.iter().map(|order| order.key.as_deref()).collect();
    let numbers: Vec<_> = (1..).zip(requests).flat_map(|(n, request)| vec![n; request.orders.len()]).collect();
    let batch_keys: Vec<_> = requests.iter().map(|request| request.key.as_deref()).collect();
    let digests: Vec<_> = requests.iter().map(|request| request.digest).collect();
    let rows = session.query(
        "SELECT outcomes, places, repeats, head_seq, seqs, products, amounts, totals
         FROM ordercast.commit($1, $2, $3, 0, $4, $5, $6, $7, $8, $9, $10)",
        &[
            Param::Int8(node),
            Param::Int8(number),
            Param::Int8(since),
            Param::Int4(MOST),
            Param::Int4s(&products),
            Param::Int8s(&amounts),
            Param::Texts(&keys),
            Param::Int4s(&numbers),
            Param::Texts(&batch_keys),
            Param::Int8sOrNull(&digests),
        ],
        later(),
    )?;
    Ok(rows.into_iter().next().unwrap())
}

/// Outcome, place and number of repeats of each request.
fn outcomes(row: &Row) -> Vec<(i16, i32, i32)> {
    let (places, repeats) = (row.int4s(1).unwrap(), row.int4s(2).unwrap());
    let outcomes = row.int2s(0).unwrap();
    assert_eq!((outcomes.len(), outcomes.len()), (places.len(), repeats.len()));
    outcomes.into_iter().zip(places).zip(repeats).map(|((outcome, place), repeats)| (outcome, place, repeats)).collect()
}

/// A database with [`PRODUCTS`], of which one is hidden.
fn filled(cluster: &Cluster) -> Session {
    let session = migrated(cluster);
    cluster.sql(&format!(
        "INSERT INTO ordercast.categories VALUES (1, 'tools', 'T', 'Tools');
         INSERT INTO ordercast.products
             SELECT n, 'T' || n, 1, 'Saw', '', '', n = {HIDDEN_PRODUCT}, 0 FROM generate_series(1, {PRODUCTS}) n;
         INSERT INTO ordercast.totals SELECT n, 0 FROM generate_series(1, {PRODUCTS}) n"
    ));
    session
}

/// What must hold after any commits: totals and log agree, the log has no gap, and the number of keys is right.
#[track_caller]
fn check(cluster: &Cluster) {
    for (what, sql) in [
        (
            "totals",
            "SELECT count(*) FROM ordercast.totals t
             LEFT JOIN (SELECT product, sum(amount) AS sum FROM ordercast.orders GROUP BY product) o USING (product)
             WHERE t.total <> coalesce(o.sum, 0)",
        ),
        (
            "totals in the log",
            "SELECT count(*) FROM (
                 SELECT total, sum(amount) OVER (PARTITION BY product ORDER BY seq) AS sum FROM ordercast.orders) o
             WHERE sum <> total",
        ),
        (
            "gaps",
            "SELECT seq - (SELECT count(*) FROM ordercast.orders) + seq - (SELECT max(seq) FROM ordercast.orders)
             FROM ordercast.head",
        ),
        ("keys", "SELECT keys - (SELECT count(*) FROM ordercast.keys) FROM ordercast.head"),
    ] {
        assert_eq!(cluster.sql(sql), "0", "{what}");
    }
}

#[test]
fn a_commit_whose_answer_was_lost_is_asked_for_again_and_counted_once() {
    let Some(cluster) = Cluster::start() else { return };
    let mut session = filled(&cluster);
    let requests =
        [single(1, 5, ""), batch(&[order(2, 1, "a"), order(HIDDEN_PRODUCT, 1, "")], 1, ""), single(1, 2, "")];
    let expected = [(COUNTED, -1, 0), (HIDDEN, 1, 0), (COUNTED, -1, 0)];
    for _ in 0..3 {
        // The answer has what was lost, also for a node that has another connection by now.
        let row = call(&mut connect(&cluster.url()), 4, 1, 0, &requests).unwrap();
        assert_eq!((outcomes(&row).as_slice(), row.int8s(4).unwrap()), (expected.as_slice(), vec![1, 2]));
        assert_eq!(
            (row.int4s(5).unwrap(), row.int8s(6).unwrap(), row.int8s(7).unwrap()),
            (vec![1, 1], vec![5, 2], vec![5, 7])
        );
    }
    // Numbers of other nodes are their own, and a call may have nothing to count.
    assert_eq!(call(&mut session, 5, 1, 2, &[]).unwrap().int8(3), Ok(2));
    let row = call(&mut session, 4, 7, 2, &[single(2, 1, "")]).unwrap();
    assert_eq!(row.int8s(4).unwrap(), [3]);
    // A call that comes after a later one counts nothing, and is an error that no node sees.
    let refused = call(&mut session, 4, 6, 2, &requests);
    assert!(matches!(&refused, Err(PgError::Server { code, .. }) if code == "OC001"), "{refused:?}");
    check(&cluster);
}

#[test]
fn keys_are_told_apart_however_the_database_looks_them_up() {
    let Some(cluster) = Cluster::start() else { return };
    let known = [single(1, 1, "z"), single(2, 2, "a"), batch(&[order(3, 3, "m")], 77, "b")];
    let row = call(&mut filled(&cluster), 1, 1, 0, &known).unwrap();
    assert_eq!(outcomes(&row), [(COUNTED, -1, 0); 3]);
    cluster.sql("ANALYZE ordercast.keys");
    let others = [
        "",
        "SET enable_nestloop = off; SET enable_hashjoin = off",
        "SET enable_nestloop = off; SET enable_mergejoin = off",
    ];
    for (number, settings) in (2..).zip(others) {
        let mut session = connect(&cluster.url());
        session.script(settings, later()).unwrap();
        let [new, last] = [format!("g-{number}"), format!("c-{number}")];
        let requests = [&known[1], &single(4, 4, &new), &known[0], &known[2], &single(3, 3, "m"), &single(5, 5, &last)];
        let row = call(&mut session, 1, number, 0, &requests.map(Clone::clone)).unwrap();
        let repeated = (REPEATED, -1, 1);
        let expected = [repeated, (COUNTED, -1, 0), repeated, repeated, repeated, (COUNTED, -1, 0)];
        assert_eq!(outcomes(&row), expected, "{settings}");
        check(&cluster);
    }
}

#[test]
fn arrays_that_do_not_fit_together_and_unknown_products_count_nothing() {
    let Some(cluster) = Cluster::start() else { return };
    let mut session = filled(&cluster);
    let unknown = call(&mut session, 1, 1, 0, &[single(1, 1, "a"), single(PRODUCTS + 1, 1, "")]);
    assert!(matches!(&unknown, Err(PgError::Server { code, .. }) if code == "OC002"), "{unknown:?}");
    for arrays in [
        "'{1,1}', '{1}', '{a}', '{1}', '{NULL}', '{NULL}'",
        "'{1,1}', '{1,1}', '{a,b}', '{2,1}', '{NULL,NULL}', '{NULL,NULL}'",
    ] {
        let error = cluster.try_sql(&format!("SELECT ordercast.commit(1, 1, 0, 0, 9, {arrays})")).unwrap_err();
        assert!(error.contains("arrays of a commit") || error.contains("not in order"), "{error}");
    }
    assert_eq!(cluster.sql("SELECT seq, keys FROM ordercast.head"), "0|0");
}

#[test]
fn a_commit_waits_for_the_disk_also_where_the_database_would_not() {
    let Some(cluster) = Cluster::start_with(&["synchronous_commit=off"]) else { return };
    drop(filled(&cluster));
    let commit = "SELECT ordercast.commit(1, 1, 0, 0, 9, '{1}', '{1}', '{a}', '{1}', '{NULL}', '{NULL}')";
    for call in [commit, "SELECT ordercast.lock()", "SELECT ordercast.join('r')"] {
        let shown = cluster.sql(&format!("BEGIN; {call}; SHOW synchronous_commit; COMMIT"));
        assert_eq!(shown.lines().last(), Some("on"), "{call}: {shown}");
    }
    assert_eq!(cluster.sql("SHOW synchronous_commit"), "off");
}

#[test]
fn a_run_begins_where_a_promoted_standby_goes_on_and_only_there() {
    let Some(cluster) = Cluster::start() else { return };
    let mut session = filled(&cluster);
    let join = |cluster: &Cluster, run: &str| cluster.sql(&format!("SELECT * FROM ordercast.join('{run}')"));
    assert_eq!(join(&cluster, "first"), "first|t");
    call(&mut session, 1, 1, 0, &[single(1, 1, "")]).unwrap();
    let standby = cluster.standby();
    assert_eq!(join(&cluster, "second"), "first|f");
    crate::common::wait_until(crate::DEADLINE, "the standby follows", || {
        standby.sql("SELECT seq FROM ordercast.head") == "1"
    });
    drop(session);
    drop(cluster);
    standby.promote();
    assert_eq!(join(&standby, "third"), "third|t");
    assert_eq!(join(&standby, "fourth"), "third|f");
    let row = call(&mut connect(&standby.url()), 1, 2, 1, &[single(1, 1, "")]).unwrap();
    assert_eq!(row.int8s(4).unwrap(), [2]);
    assert_eq!(standby.sql("SELECT id, after FROM ordercast.runs ORDER BY n"), "first|0\nthird|1");
}

/// The use of a key.
#[derive(Clone, Debug, PartialEq)]
enum Use {
    Order(i32, i64),
    Batch(i64),
}

/// The rules, as the ledger of one server has them.
#[derive(Default)]
struct Model {
    totals: HashMap<i32, i64>,
    keys: HashMap<String, Use>,
    max_keys: Option<usize>,
    seq: i64,
}

impl Model {
    fn has_room(&self) -> bool {
        self.max_keys.is_none_or(|max| self.keys.len() < max)
    }

    /// `Ok(true)` for a repeat.
    fn order(&mut self, Order { product, amount, key }: &Order) -> Result<bool, i16> {
        let used = Use::Order(*product, *amount);
        if let Some(known) = key.as_ref().and_then(|key| self.keys.get(key)) {
            return if *known == used { Ok(true) } else { Err(KEY_REUSED) };
        }
        let total = self.totals.get(product).copied().unwrap_or(0) + amount;
        match () {
            () if *product == HIDDEN_PRODUCT => return Err(HIDDEN),
            () if key.is_some() && !self.has_room() => return Err(KEYS_FULL),
            () if total.abs() > MAX_TOTAL => return Err(OUT_OF_RANGE),
            () => {}
        }
        self.totals.insert(*product, total);
        self.keys.extend(key.clone().map(|key| (key, used)));
        self.seq += 1;
        Ok(false)
    }

    fn batch(&mut self, orders: &[Order], digest: i64, key: Option<&String>) -> Result<(i16, i32, i32), (i16, i32)> {
        if let Some(known) = key.and_then(|key| self.keys.get(key)) {
            let is_repeat = *known == Use::Batch(digest);
            return if is_repeat { Ok((REPEATED, -1, orders.len() as i32)) } else { Err((KEY_REUSED, -1)) };
        }
        if let Some(place) = orders.iter().position(|order| key.is_some() && order.key.as_ref() == key) {
            return Err((KEY_REUSED, place as i32));
        }
        let (mut outcome, mut repeats) = (REPEATED, 0);
        for (place, order) in (0..).zip(orders) {
            match self.order(order) {
                Ok(true) => repeats += 1,
                Ok(false) => outcome = COUNTED,
                Err(why) => return Err((why, place)),
            }
        }
        if let Some(key) = key {
            if !self.has_room() {
                return Err((KEYS_FULL, -1));
            }
            self.keys.insert(key.clone(), Use::Batch(digest));
            outcome = COUNTED;
        }
        Ok((outcome, -1, repeats))
    }

    fn request(&mut self, Request { orders, digest, key }: &Request) -> (i16, i32, i32) {
        let Some(digest) = digest else {
            return match self.order(&orders[0]) {
                Ok(is_repeat) => (i16::from(is_repeat), -1, i32::from(is_repeat)),
                Err(why) => (why, -1, 0),
            };
        };
        let before = (self.totals.clone(), self.keys.clone(), self.seq);
        self.batch(orders, *digest, key.as_ref()).unwrap_or_else(|(why, place)| {
            (self.totals, self.keys, self.seq) = before;
            (why, place, 0)
        })
    }
}

/// Requests with few products and keys, and amounts near the limits, so that every rule is met often.
fn random_requests(random: &mut Random) -> Vec<Request> {
    let key = |random: &mut Random, percent, letter, most| {
        random.chance(percent).then(|| format!("{letter}{}", random.below(most)))
    };
    let order = |random: &mut Random| {
        let product = if random.chance(5) { HIDDEN_PRODUCT } else { 1 + random.below(4) as i32 };
        let amount = if random.chance(4) { *random.pick(&[MAX_TOTAL, -MAX_TOTAL]) } else { random.below(3) as i64 - 1 };
        Order { product, amount, key: key(random, 40, 'k', 60) }
    };
    (0..random.below(12))
        .map(|_| {
            if random.chance(50) {
                return Request { orders: vec![order(random)], digest: None, key: None };
            }
            let orders = (0..random.below(5)).map(|_| order(random)).collect();
            let own = if random.chance(80) { key(random, 60, 'b', 15) } else { key(random, 100, 'k', 60) };
            Request { orders, digest: Some(random.below(3) as i64), key: own }
        })
        .collect()
}

#[test]
fn random_commits_have_the_outcomes_that_the_ledger_of_one_server_gives_them() {
    let Some(cluster) = Cluster::start() else { return };
    let mut session = filled(&cluster);
    let mut random = Random::new(seed(), 0);
    let (mut model, mut seen) = (Model::default(), BTreeSet::new());
    for number in 1..=600 {
        if number % 100 == 0 {
            model.max_keys = random.chance(60).then(|| model.keys.len() + random.place(20));
            let max_keys = Param::Int8OrNull(model.max_keys.map(|max| max as i64));
            session.query("UPDATE ordercast.settings SET max_keys = $1", &[max_keys], later()).unwrap();
            // What is known of the tables changes the plans of the function, and must not change what it counts.
            session.script("ANALYZE", later()).unwrap();
        }
        if random.chance(10) {
            // These expire.
            let mut keys: Vec<_> = model.keys.keys().cloned().collect();
            keys.sort();
            keys.retain(|_| random.chance(10));
            model.keys.retain(|key, _| !keys.contains(key));
            let keys: Vec<_> = keys.iter().map(|key| Some(key.as_str())).collect();
            let sql = "UPDATE ordercast.keys SET at_ms = 1 WHERE key = ANY ($1)";
            session.query(sql, &[Param::Texts(&keys)], later()).unwrap();
        }
        if random.chance(5) {
            session.query("SELECT ordercast.prune(3)", &[], later()).unwrap();
        }
        let requests = random_requests(&mut random);
        let before = model.seq;
        let expected: Vec<_> = requests.iter().map(|request| model.request(request)).collect();
        let row = call(&mut session, 1, number, before, &requests).unwrap();
        assert_eq!(outcomes(&row), expected, "{number}: {requests:?}");
        assert_eq!(row.int8s(4).unwrap(), (before + 1..=model.seq).collect::<Vec<_>>(), "{number}");
        seen.extend(expected.iter().map(|(outcome, ..)| *outcome));
    }
    check(&cluster);
    assert!(seen.len() >= 5, "{seen:?}");
}

#[test]
fn commits_of_many_nodes_at_the_same_time_leave_no_gap_and_every_node_reads_all_of_them_in_order() {
    const NODES: i64 = 4;
    let Some(cluster) = Cluster::start() else { return };
    drop(filled(&cluster));
    let (seed, url) = (seed(), cluster.url());
    let node = |node: i64| {
        let (mut session, mut random) = (connect(&url), Random::new(seed, node.cast_unsigned()));
        let (mut lines, mut counted) = (Vec::new(), 0);
        for number in 1..=150 {
            let requests = random_requests(&mut random);
            let row = call(&mut session, node, number, lines.len() as i64, &requests).unwrap();
            let (seqs, products) = (row.int8s(4).unwrap(), row.int4s(5).unwrap());
            assert_eq!(seqs, (lines.len() as i64 + 1..=row.int8(3).unwrap()).collect::<Vec<_>>());
            lines.extend(products.into_iter().zip(row.int8s(7).unwrap()));
            let of = |(request, (outcome, _, repeats)): (&Request, _)| match outcome {
                COUNTED => request.orders.len() as i64 - i64::from(repeats),
                _ => 0,
            };
            counted += requests.iter().zip(outcomes(&row)).map(of).sum::<i64>();
        }
        (lines, counted)
    };
    let results: Vec<_> = thread::scope(|scope| {
        let nodes: Vec<_> = (1..=NODES).map(|number| scope.spawn(move || node(number))).collect();
        nodes.into_iter().map(|node| node.join().unwrap()).collect()
    });
    let longest = results.iter().map(|(lines, _)| lines).max_by_key(|lines| lines.len()).unwrap();
    assert!(results.iter().all(|(lines, _)| longest.starts_with(lines)));
    let counted: i64 = results.iter().map(|(_, counted)| counted).sum();
    assert_eq!(cluster.sql("SELECT seq FROM ordercast.head"), counted.to_string());
    check(&cluster);
}
