//! A network that loses every packet between a node and its database, and says nothing: a node in a network namespace of
//! its own, with one link to its clients and another one to the database.

use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::away::order_when_ready;
use crate::common::{Cluster, DEADLINE, Form, Positional, Server, skip, wait_until};
use crate::feeds::{all_stale, told_by};
use crate::nodes::migrate;

/// How long the link is cut.
const CUT: Duration = Duration::from_secs(5);
/// How soon after it the node has to be back: the kernel sends lost packets again after pauses that double.
const HEALED_WITHIN: Duration = Duration::from_secs(15);

/// A namespace with two links to this one.
struct Namespace {
    name: String,
    /// The first three numbers of all addresses.
    net: String,
}

impl Namespace {
    /// `None`, after a message, where the machine or the user does not allow it.
    fn new() -> Option<Namespace> {
        let pid = std::process::id();
        let space = Namespace { name: format!("oc{pid}"), net: format!("10.{}.{}", pid >> 8 & 255, pid & 255) };
        let Namespace { name, net } = &space;
        let inside = ["-n", name.as_str()];
        let made = ip(&["netns", "add", name])
            && ip(&[&inside[..], &["link", "set", "lo", "up"]].concat())
            && [("c", 1, 2), ("d", 5, 6)].iter().all(|(kind, here, there)| {
                let (outer, inner) = (format!("{name}{kind}"), format!("{name}{kind}i"));
                ip(&["link", "add", &outer, "type", "veth", "peer", "name", &inner, "netns", name])
                    && ip(&["addr", "add", &format!("{net}.{here}/30"), "dev", &outer])
                    && ip(&["link", "set", &outer, "up"])
                    && ip(&[&inside[..], &["addr", "add", &format!("{net}.{there}/30"), "dev", &inner]].concat())
                    && ip(&[&inside[..], &["link", "set", &inner, "up"]].concat())
            });
        if !made {
            skip("this machine or this user makes no network namespace", false);
        }
        made.then_some(space)
    }

    /// Cuts the link to the database, or mends it.
    fn cut(&self, is_cut: bool) {
        assert!(ip(&["link", "set", &format!("{}d", self.name), if is_cut { "down" } else { "up" }]));
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Its links end with it.
        ip(&["netns", "del", &self.name]);
    }
}

fn ip(args: &[&str]) -> bool {
    let status = Command::new("ip").args(args).stdin(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

#[test]
fn a_link_that_drops_everything_is_noticed_within_two_seconds_and_nothing_is_lost_when_it_is_back() {
    let Some(space) = Namespace::new() else { return };
    let Some(cluster) = Cluster::start_with(&["listen_addresses=*"]) else { return };
    cluster.set_access("host all all 0.0.0.0/0 trust");
    migrate(&cluster.url(), &[]);
    let Namespace { name, net } = &space;
    let away = Server::builder()
        .store(&format!("postgres://postgres@{net}.5:{}/postgres", cluster.port()))
        .listen(&format!("{net}.2:0"))
        .shell(&format!("exec nsenter --net=/run/netns/{name} \"$0\" \"$@\""))
        .start();
    let near = Server::builder().store(&cluster.url()).start();
    let mut feed = Positional::open(Form::WebSocket, away.addr(), "/orders/electronics", None);
    feed.take(2);
    let mut nodes = [away];
    let mut told = told_by(&nodes);
    let mut expected = 0;
    for _ in 0..2 {
        order_when_ready(nodes[0].addr(), "A1", 1);
        let cutting = Instant::now();
        space.cut(true);
        let begun = Instant::now();
        println!("the cut took {} ms", cutting.elapsed().as_millis());
        all_stale(&mut told, begun);
        assert_eq!(nodes[0].client().post("/orders/A1", "{\"amount\":1}").status, 503);
        // The other node goes on.
        for _ in 0..3 {
            near.client().order("A1", 1);
        }
        // The time is the fault.
        thread::sleep(CUT.saturating_sub(begun.elapsed()));
        space.cut(false);
        let healed = Instant::now();
        told.iter_mut().for_each(|feed| feed.until_live(HEALED_WITHIN));
        println!("live {} ms after the link was mended", healed.elapsed().as_millis());
        expected += 4;
        assert_eq!(nodes[0].total("A1"), 3 + expected);
    }
    order_when_ready(nodes[0].addr(), "A1", 1);
    expected += 1;
    let seqs: Vec<u64> = feed.take(expected as usize).iter().map(|step| step.seq()).collect();
    assert_eq!(seqs, (1..=expected as u64).collect::<Vec<_>>());
    wait_until(DEADLINE, "the other node follows", || near.total("A1") == 3 + expected);
    assert!(nodes[0].is_running());
}
