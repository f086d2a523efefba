//! A product that was hidden and is shown again: a client that was away meanwhile gets its total, also after a restart.

use crate::common::positions::{Form, Positional};
use crate::common::{DEADLINE, Server};

fn hide(server: &Server, is_hidden: bool) {
    let body = format!("{{\"hidden\":{is_hidden}}}");
    let reply = server.client().request(
        "PATCH",
        "/electronics/A1",
        &[("Content-Type", "application/merge-patch+json")],
        body.as_bytes(),
    );
    assert_eq!(reply.status, 200, "{reply:?}");
}

#[test]
fn a_client_that_resumes_from_before_it_was_shown_gets_its_total_with_and_without_a_restart() {
    for path in
        ["/orders/electronics", "/orders", "/orders/electronics?period=current", "/orders/electronics?every=100"]
    {
        for form in [Form::WebSocket, Form::Events] {
            for restarts in [0, 1, 2] {
                let mut server = Server::start();
                server.client().order("A1", 5);
                server.client().order("A2", 1);
                hide(&server, true);
                let mut feed = Positional::open(form, server.addr(), path, None);
                let mut steps = vec![feed.next()];
                while !steps.last().is_some_and(|step| step.can_resume()) {
                    steps.push(feed.next());
                }
                assert!(steps.iter().all(|step| step.id != "A1"), "{steps:?}");
                let position = steps.pop().and_then(|step| step.position).expect("a position");
                drop(feed);
                hide(&server, false);
                for _ in 0..restarts {
                    server.restart();
                }
                server.client().order("A2", 1);
                let mut feed = Positional::open(form, server.addr(), path, Some(&position));
                let expected = if path.contains("period") { 5 } else { 8 };
                loop {
                    let step = feed.next_within(DEADLINE).expect("the total of A1 comes");
                    if step.id == "A1" {
                        assert_eq!(step.total, expected, "{path}");
                        break;
                    }
                }
            }
        }
    }
}
