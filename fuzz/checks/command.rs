//! What clients send as JSON: messages over a WebSocket, orders one by one and many at once, new products, and the numbers
//! in them.

use ordercast::json::{self as wire, BatchError, BatchOrder, BodyError, Command, CommandError};
use ordercast::store::order_log::Entry;
use ordercast::tally::catalog::{Details, MAX_INFO_BYTES, MAX_NAME_BYTES};
use ordercast::tally::order::{Amount, AmountError, Key, MAX_KEY_BYTES, MAX_TOTAL};

use super::json;

/// The most orders in one body.
const BATCH_ORDERS: usize = 1_000;
/// The most refused orders whose results are looked at.
const REFUSED_ORDERS: usize = 20;

/// The fuzz target `command`: every reader gets the same bytes.
///
/// # Panics
/// When a reader takes what the strict one refuses, refuses what that takes, or finds another value.
pub fn check(input: &[u8]) {
    check_order(input);
    check_details(input);
    check_array(input);
    check_lines(input);
    if let Ok(text) = std::str::from_utf8(input) {
        check_amount(text);
        check_command(text);
        check_log_line(text);
    }
}

/// An object as the server sees it: the last member of a name counts.
struct Object<'a>(Vec<(Option<String>, &'a str)>);

impl<'a> Object<'a> {
    /// `None` when the text is no object, or has a name that no text has.
    fn read(value: &'a str) -> Option<Self> {
        json::members(value).filter(|members| members.iter().all(|(name, _)| name.is_some())).map(Self)
    }

    fn get(&self, name: &str) -> Option<&'a str> {
        self.0.iter().rev().find(|(own, _)| own.as_deref() == Some(name)).map(|(_, value)| *value)
    }

    /// `Err` when it is there and no string.
    fn text(&self, name: &str) -> Result<Option<String>, ()> {
        self.get(name).map(|value| json::string(value).ok_or(())).transpose()
    }

    fn amount(&self) -> Option<Amount> {
        amount(self.get("amount")?).ok().and_then(Amount::new)
    }

    /// `Err` when there is a key that none can be.
    fn key(&self) -> Result<Option<Key>, ()> {
        let Some(text) = self.text("key")? else { return Ok(None) };
        let fits = !text.is_empty() && text.len() <= MAX_KEY_BYTES && !text.contains(char::is_control);
        let key = Key::new(&text);
        assert_eq!(key.as_ref().map(Key::as_str), fits.then_some(text.as_str()));
        key.map(Some).ok_or(())
    }
}

fn check_order(body: &[u8]) {
    let taken = wire::parse_order(body);
    let value = std::str::from_utf8(body).ok().and_then(json::value);
    let expected = value.and_then(Object::read).and_then(|order| Some((order.amount()?, order.key().ok()?)));
    assert_eq!(taken.as_ref().ok(), expected.as_ref());
    check_body_error(taken.err(), value);
}

fn check_details(body: &[u8]) {
    let taken = wire::parse_details(body);
    let value = std::str::from_utf8(body).ok().and_then(json::value);
    let expected = value.and_then(Object::read).and_then(|details| {
        let [name, rrp, info] = ["name", "rrp", "info"].map(|name| details.text(name));
        Some(Details { name: name.ok()??, rrp: rrp.ok()?.unwrap_or_default(), info: info.ok()?.unwrap_or_default() })
    });
    assert_eq!(taken.as_ref().ok(), expected.filter(keeps_bounds).as_ref());
    check_body_error(taken.err(), value);
}

/// The bounds of a product's texts.
#[must_use]
pub fn keeps_bounds(details: &Details) -> bool {
    let Details { name, rrp, info } = details;
    let short = name.len() <= MAX_NAME_BYTES && rrp.len() <= MAX_NAME_BYTES && info.len() <= MAX_INFO_BYTES;
    let plain = [name, rrp, info].iter().all(|text| !text.contains(char::is_control));
    short && plain && name.chars().any(|letter| !letter.is_whitespace())
}

/// No JSON is malformed, anything else is wrong.
fn check_body_error(error: Option<BodyError>, value: Option<&str>) {
    match error {
        None => assert!(value.is_some()),
        Some(BodyError::Invalid(why)) => assert!(value.is_some() && !why.is_empty(), "{why}"),
        Some(BodyError::Malformed(why)) => assert!(value.is_none() && !why.is_empty(), "{why}"),
    }
}

fn check_array(body: &[u8]) {
    let taken = wire::parse_batch(body, false);
    let Some(value) = std::str::from_utf8(body).ok().and_then(json::value) else {
        return assert!(matches!(taken, Err(BatchError::Body(BodyError::Malformed(_)))), "{taken:?}");
    };
    match json::items(value) {
        None => assert!(matches!(taken, Err(BatchError::Body(BodyError::Invalid(_)))), "{taken:?}"),
        Some(items) => check_batch(taken, &items.into_iter().map(batch_line).collect::<Vec<_>>(), false),
    }
}

fn check_lines(body: &[u8]) {
    let lines = body.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
    let read = |line| std::str::from_utf8(line).ok().and_then(json::value).and_then(batch_line);
    check_batch(wire::parse_batch(body, true), &lines.map(read).collect::<Vec<_>>(), true);
}

fn batch_line(value: &str) -> Option<BatchOrder> {
    let order = Object::read(value)?;
    Some(BatchOrder { id: order.text("id").ok()??, amount: order.amount()?, key: order.key().ok()? })
}

/// All orders are taken or none, and there is one result for each.
fn check_batch(taken: Result<Vec<BatchOrder>, BatchError>, expected: &[Option<BatchOrder>], is_ndjson: bool) {
    match taken {
        Ok(lines) => {
            assert!((1..=BATCH_ORDERS).contains(&lines.len()));
            assert!(lines.iter().map(Some).eq(expected.iter().map(Option::as_ref)));
            let results = wire::batch_results(lines.iter().map(|line| line.key.as_ref()), is_ndjson);
            let results: Vec<&str> = if is_ndjson {
                results.lines().map(|line| json::value(line).expect("a result is JSON")).collect()
            } else {
                json::value(&results).and_then(json::items).expect("results are an array")
            };
            assert_eq!(results.len(), lines.len());
            for (result, line) in results.into_iter().zip(&lines) {
                check_taken(result, line.key.as_ref().map(Key::as_str));
            }
        }
        Err(BatchError::Orders(lines)) => {
            assert!((1..=BATCH_ORDERS).contains(&lines.len()) && lines.iter().any(Result::is_err));
            assert!(lines.iter().map(|line| line.as_ref().ok()).eq(expected.iter().map(Option::as_ref)), "{lines:?}");
            // The first of them, because a thousand would take most of the fuzzer's time and tell nothing more.
            check_refusal(&lines[..lines.len().min(REFUSED_ORDERS)]);
        }
        Err(BatchError::Body(error)) => {
            assert!(expected.is_empty() || expected.len() > BATCH_ORDERS, "{error}");
            assert!(matches!(error, BodyError::Invalid(_)), "{error}");
        }
    }
}

fn check_refusal(lines: &[Result<BatchOrder, String>]) {
    let told = |line: &Result<BatchOrder, String>| match line {
        Ok(line) => (line.key.clone(), None),
        Err(error) => (None, Some(error.clone())),
    };
    let orders: Vec<(Option<Key>, Option<String>)> = lines.iter().map(told).collect();
    let shown = orders.iter().map(|(key, error)| (key.as_ref(), error.as_deref()));
    let rejection = wire::batch_problem(422, "title", "detail", shown);
    let object = json::value(&rejection).and_then(Object::read).expect("a problem is an object");
    assert_eq!((object.get("status"), object.text("detail")), (Some("422"), Ok(Some("detail".to_owned()))));
    let results = object.get("results").and_then(json::items).expect("results are an array");
    assert_eq!(results.len(), orders.len());
    for (result, (key, error)) in results.into_iter().zip(orders) {
        let result = Object::read(result).expect("a result is an object");
        assert_eq!((result.get("ok"), result.text("error")), (Some("false"), Ok(error)));
        assert_eq!(result.text("key"), Ok(key.map(|key| key.as_str().to_owned())));
    }
}

/// The answer to an order: it is well, and repeats its key.
fn check_taken(answer: &str, key: Option<&str>) {
    let object = json::value(answer).and_then(Object::read).expect("the answer is an object");
    assert_eq!(object.get("ok"), Some("true"), "{answer}");
    assert_eq!(object.text("key"), Ok(key.map(str::to_owned)), "{answer}");
}

fn check_command(message: &str) {
    let taken = wire::parse_command(message);
    assert_eq!(taken.as_ref().map_err(|error| &error.key), command(message).as_ref());
    let key = match &taken {
        Ok(Command::UpdateCategory(_)) => None,
        Ok(Command::AddOrder { key, .. }) => key.as_ref().map(|key| key.as_str().to_owned()),
        Err(CommandError { key, .. }) => key.clone(),
    };
    assert!(key.as_ref().is_none_or(|key| key.len() <= MAX_KEY_BYTES));
    if let Err(CommandError { why, .. }) = &taken {
        assert!(!why.is_empty());
        check_answer(&wire::error_message(why, key.as_deref()), "error", why, key.as_deref());
    }
    check_answer(&wire::error_message(message, Some(message)), "error", message, Some(message));
    check_taken(&wire::ok_message(key.as_deref()), key.as_deref());
}

fn check_answer(answer: &str, name: &str, text: &str, key: Option<&str>) {
    let object = json::value(answer).and_then(Object::read).expect("the answer is an object");
    assert_eq!(object.text(name), Ok(Some(text.to_owned())), "{answer}");
    assert_eq!(object.text("key"), Ok(key.map(str::to_owned)), "{answer}");
    assert_eq!(object.0.len(), 1 + usize::from(key.is_some()), "{answer}");
}

/// The command that a message stands for, or the key that the rejection repeats.
fn command(message: &str) -> Result<Command, Option<String>> {
    let envelope = json::value(message).and_then(Object::read).ok_or(None)?;
    let cmd = envelope.text("cmd").ok().flatten().ok_or(None)?;
    let payload = Object::read(envelope.get("payload").unwrap_or("{}")).ok_or(None)?;
    match cmd.as_str() {
        "update-category" => payload.text("category").ok().flatten().map(Command::UpdateCategory).ok_or(None),
        "add-order" => {
            let key = payload.key().map_err(|()| None)?;
            let id = payload.text("id").ok().flatten();
            match id.zip(payload.amount()) {
                Some((id, amount)) => Ok(Command::AddOrder { id, amount, key }),
                None => Err(key.map(|key| key.as_str().to_owned())),
            }
        }
        _ => Err(None),
    }
}

/// Whatever stands in the log, its page has one object a line.
fn check_log_line(text: &str) {
    let [time, id, key] = [(); 3].map(|()| text.to_owned());
    let mut line = String::new();
    wire::push_log_line(&mut line, &Entry { seq: u64::MAX, time, id, amount: -MAX_TOTAL, total: 1, key: Some(key) });
    let line = line.strip_suffix('\n').filter(|line| !line.contains('\n')).expect("one line");
    let object = json::value(line).and_then(Object::read).expect("a line is an object");
    for name in ["time", "id", "key"] {
        assert_eq!(object.text(name), Ok(Some(text.to_owned())), "{line}");
    }
    assert_eq!((object.get("seq"), object.amount()), (Some("18446744073709551615"), Amount::new(-MAX_TOTAL)), "{line}");
}

fn check_amount(text: &str) {
    let taken = Amount::from_json_number(text).map(Amount::get);
    assert_eq!(taken, amount(text), "{text}");
    if let Ok(pieces) = taken {
        // Every integer of the range is a binary double, and reading one rounds correctly: so none other can come out.
        assert_eq!(text.parse(), Ok(double(pieces)), "{text}");
    }
}

#[expect(clippy::cast_precision_loss, reason = "the range ends where integers stop being exact")]
fn double(pieces: i64) -> f64 {
    assert!((-MAX_TOTAL..=MAX_TOTAL).contains(&pieces));
    pieces as f64
}

/// The value of a JSON number, found by moving its decimal point over its digits.
///
/// # Errors
/// The rule that the number breaks.
pub fn amount(text: &str) -> Result<i64, AmountError> {
    if !json::is_number(text) {
        return Err(AmountError::NotANumber);
    }
    let text = text.to_ascii_lowercase();
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let unsigned = mantissa.trim_start_matches('-');
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    // Beyond what an i64 holds, only the sign matters: no text has that many digits.
    let limit = if exponent.starts_with('-') { i64::MIN / 2 } else { i64::MAX / 2 };
    let exponent = exponent.parse::<i64>().map_or(limit, |exponent| exponent.clamp(i64::MIN / 2, i64::MAX / 2));
    let digits = format!("{whole}{fraction}");
    let zeros = digits.len() - digits.trim_start_matches('0').len();
    let digits = digits.trim_matches('0');
    if digits.is_empty() {
        return Ok(0);
    }
    // How many digits stand before the point, once the point has been moved.
    let before = i64::try_from(whole.len()).unwrap_or(i64::MAX) + exponent - i64::try_from(zeros).unwrap_or(0);
    let integer = usize::try_from(before).ok().filter(|before| *before >= digits.len());
    let width = integer.ok_or(AmountError::NotAnInteger)?;
    if width > 16 {
        return Err(AmountError::OutOfRange);
    }
    let value: i64 = format!("{digits:0<width$}").parse().map_err(|_| AmountError::OutOfRange)?;
    if value > MAX_TOTAL {
        return Err(AmountError::OutOfRange);
    }
    Ok(if mantissa.starts_with('-') { -value } else { value })
}
