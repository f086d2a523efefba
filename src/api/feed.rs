//! A client's live feed: where its totals come from, and the commands that it may send. Knows neither frames nor
//! sockets.

use std::cell::Cell;
use std::sync::{Arc, PoisonError};

use tungstenite::Message;
use tungstenite::protocol::frame::coding::CloseCode;

use crate::api::routes::Topic;
use crate::api::tokens::{Access, Token, Tokens};
use crate::api::upstream::{Denied, Upstream};
use crate::json::{self, Command, CommandError};
use crate::ledger::{LedgerHandle, Order};
use crate::live::fanout::{FanoutHandle, Feed, Subscription};
use crate::live::slow_sockets::SlowSockets;
use crate::live::subscriber::Subscriber;
use crate::live::websocket::{CloseReason, SessionHandler};
use crate::tally::catalog::SharedCatalog;
use crate::tally::order::{Amount, Key};

/// What live feeds need.
pub struct Feeds {
    /// Categories and products.
    pub catalog: SharedCatalog,
    /// Takes orders.
    pub ledger: LedgerHandle,
    /// The server that this one follows, if it does; then that one takes orders, and knows the tokens.
    pub upstream: Option<Arc<dyn Upstream>>,
    /// Sends totals.
    pub fanout: FanoutHandle,
    /// The tokens that may read and write.
    pub tokens: Arc<Tokens>,
    /// Takes over subscribers whose socket is full.
    pub slow_sockets: Arc<SlowSockets>,
}

/// One client's feed.
pub struct LiveFeed {
    shared: Arc<Feeds>,
    /// What it begins with; `update-category` changes the feed.
    subscription: Subscription,
    /// The position from which it resumes.
    since: Option<String>,
    token: Option<Token>,
    /// Whether the subscriber has been taken off the fan-out's list, which counts it.
    has_left: Cell<bool>,
}

impl LiveFeed {
    /// A feed that has not begun.
    #[must_use]
    pub fn new(shared: Arc<Feeds>, topic: Topic) -> Self {
        let Topic { subscription, since, token } = topic;
        Self { shared, subscription, since, token, has_left: Cell::new(false) }
    }

    fn may(&self, access: Access) -> bool {
        let token = self.token.as_ref().map(Token::text);
        match &self.shared.upstream {
            None => self.shared.tokens.check(token, access).is_ok(),
            // While it does not answer, nothing new is known of the token.
            Some(upstream) => matches!(upstream.check_read(token), Ok(()) | Err(Denied::Away)),
        }
    }

    fn order(&self, id: &str, amount: Amount, key: Option<Key>) -> String {
        let name = key.as_ref().map(|key| key.as_str().to_owned());
        let name = name.as_deref();
        if let Some(upstream) = &self.shared.upstream {
            return self.order_there(&**upstream, id, amount, key.as_ref());
        }
        if !self.may(Access::Write) {
            return json::error_message("to order over this socket, open it with a token that may write", name);
        }
        let found = self.shared.catalog.read().unwrap_or_else(PoisonError::into_inner).find_product(id);
        let Some(product) = found else {
            return json::error_message("there is no such product; GET /{category} lists them", name);
        };
        match self.shared.ledger.order(Order { product, amount, key }) {
            Ok(()) => json::ok_message(name),
            Err(rejection) => json::error_message(&rejection.to_string(), name),
        }
    }

    #[inline(never)]
    fn order_there(&self, upstream: &dyn Upstream, id: &str, amount: Amount, key: Option<&Key>) -> String {
        let name = key.map(Key::as_str);
        match upstream.order(id, amount, key, self.token.as_ref().map(Token::text)) {
            Ok(()) => json::ok_message(name),
            Err(why) => json::error_message(&why, name),
        }
    }
}

impl SessionHandler for LiveFeed {
    fn begin(&mut self, subscriber: &Arc<Subscriber>) {
        let since = self.since.take();
        if let Some(position) = &since {
            self.shared.fanout.await_position(position);
        }
        self.shared.fanout.subscribe(subscriber.clone(), self.subscription, since.as_deref());
    }

    /// A token may be taken off the list while the session is open.
    fn check(&self) -> Result<(), CloseReason> {
        if self.token.is_none() || self.may(Access::Read) {
            Ok(())
        } else {
            Err(CloseReason(CloseCode::Policy, "the token is no longer known here"))
        }
    }

    fn on_message(&mut self, subscriber: &Arc<Subscriber>, message: Message) -> Result<Option<Message>, CloseReason> {
        // Some clients send JSON as binary. The session has checked the UTF-8 of text already.
        let data = message.into_data();
        let Ok(text) = std::str::from_utf8(&data) else {
            return Ok(Some(Message::text(json::error_message("the message must be UTF-8 text", None))));
        };
        let answer = match json::parse_command(text) {
            Ok(Command::UpdateCategory(name)) => {
                let found = self.shared.catalog.read().unwrap_or_else(PoisonError::into_inner).find_category(&name);
                match found {
                    Some(index) => {
                        let subscription = Subscription { feed: Feed::Category(index), ..self.subscription };
                        self.shared.fanout.move_to(subscriber.clone(), subscription);
                        // The snapshot is the answer.
                        return Ok(None);
                    }
                    None => json::error_message("there is no such category; GET /categories lists them", None),
                }
            }
            Ok(Command::AddOrder { id, amount, key }) => self.order(&id, amount, key),
            Err(CommandError { why, key }) => json::error_message(&why, key.as_deref()),
        };
        Ok(Some(Message::text(answer)))
    }

    fn request_catch_up(&self, subscriber: &Arc<Subscriber>) {
        self.shared.fanout.request_catch_up(subscriber.clone());
    }

    fn end(&self, subscriber: &Arc<Subscriber>) {
        // At the close frame, and again when the session is dropped.
        if !self.has_left.replace(true) {
            self.shared.fanout.leave(subscriber.clone());
        }
    }
}
