//! pgbench that calls the function of a commit as nodes do.

use std::time::Duration;

use crate::common::postgres::tool;
use crate::common::{Cluster, TempDir};

/// The commits of all nodes so far, which number theirs.
pub fn commits(cluster: &Cluster) -> f64 {
    cluster.sql("SELECT coalesce(sum(commit), 0) FROM ordercast.nodes").parse().expect("a number")
}

/// The orders of a commit on average, at least one.
pub fn batch(orders: f64, commits: f64) -> usize {
    (orders / commits.max(1.0)).round().max(1.0) as usize
}

/// Orders a second with so many orders of one product a call.
pub fn orders_per_second(cluster: &Cluster, batch: usize, clients: usize, length: Duration) -> f64 {
    let folder = TempDir::new();
    let list = |value: &dyn Fn(usize) -> String| (1..=batch).map(value).collect::<Vec<_>>().join(",");
    let (ones, nulls, numbers) = (list(&|_| "1".into()), list(&|_| "NULL".into()), list(&|at| at.to_string()));
    let call = format!(
        "SELECT head_seq AS since, head_news AS since_news FROM ordercast.commit(:client_id + 1, :n, :since, :since_news, \
         20000, ARRAY[{ones}]::int[], ARRAY[{ones}]::bigint[], ARRAY[{nulls}]::text[], ARRAY[{numbers}]::int[], \
         ARRAY[{nulls}]::text[], ARRAY[{nulls}]::bigint[]) \\gset\n"
    );
    let script = folder.write("commit.sql", format!("\\set n :n + 1\n{call}"));
    let head = cluster.sql("SELECT seq || ' ' || news FROM ordercast.head");
    // Each client numbers its commits, after those of an earlier call of this function.
    let commit = cluster.sql("SELECT coalesce(max(commit), 0) FROM ordercast.nodes");
    let (seq, news) = head.split_once(' ').expect("two numbers");
    let output = tool("pgbench")
        .args(["--no-vacuum", "--protocol=prepared"])
        .arg(format!("--define=n={commit}"))
        .arg(format!("--define=since={seq}"))
        .arg(format!("--define=since_news={news}"))
        .arg(format!("--client={clients}"))
        .arg(format!("--jobs={clients}"))
        .arg(format!("--time={}", length.as_secs()))
        .arg("--file")
        .arg(script)
        .arg(cluster.url())
        .output()
        .expect("pgbench runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let calls = text.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse::<f64>().ok());
    calls.unwrap_or_else(|| panic!("pgbench: {text}{}", String::from_utf8_lossy(&output.stderr))) * batch as f64
}
