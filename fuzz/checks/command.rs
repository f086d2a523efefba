//! JSON that clients send: WebSocket messages, single orders, batches of orders, new products, the period to close, and
//! the numbers in them.

use ordercast::internal::json::{self as wire, BatchError, BatchOrder, BodyError, Command, CommandError};
use ordercast::internal::store::order_log::Entry;
use ordercast::internal::tally::catalog::{Details, MAX_ID_BYTES, MAX_INFO_BYTES, MAX_NAME_BYTES};
use ordercast::internal::tally::order::{Amount, AmountError, Key, MAX_KEY_BYTES, MAX_TOTAL};
use ordercast::internal::tally::product_patch::ProductPatch;

use super::json;

/// The most orders in a batch.
const MAX_BATCH: usize = 1_000;
/// The most orders of a rejected batch whose results are checked.
const CHECKED_RESULTS: usize = 20;

/// The fuzz target `command`: every parser gets the same bytes.
///
/// # Panics
/// When a parser accepts what the strict reader rejects, rejects what that accepts, or finds another value.
pub fn check(input: &[u8]) {
    check_order(input);
    check_details(input);
    check_patch(input);
    check_period(input);
    check_array(input);
    check_lines(input);
    if let Ok(text) = std::str::from_utf8(input) {
        check_amount(text);
        check_command(text);
        check_log_line(text);
    }
}

/// An object, read as the server does: of members with the same name, the last one counts.
struct Object<'a>(Vec<(Option<String>, &'a str)>);

impl<'a> Object<'a> {
    /// `None` when the value is not an object, or a name is not Unicode text.
    fn read(value: &'a str) -> Option<Self> {
        json::members(value).filter(|members| members.iter().all(|(name, _)| name.is_some())).map(Self)
    }

    fn get(&self, name: &str) -> Option<&'a str> {
        self.0.iter().rev().find(|(own, _)| own.as_deref() == Some(name)).map(|(_, value)| *value)
    }

    /// The string, if there is such a member; `Err` when its value is not a string.
    fn text(&self, name: &str) -> Result<Option<String>, ()> {
        self.get(name).map(|value| json::string(value).ok_or(())).transpose()
    }

    fn amount(&self) -> Option<Amount> {
        amount(self.get("amount")?).ok().and_then(Amount::new)
    }

    /// The key, if there is one; `Err` when it is not valid.
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
    let taken = wire::parse_product(body);
    let value = std::str::from_utf8(body).ok().and_then(json::value);
    let expected = value.and_then(Object::read).and_then(|product| {
        let [name, info] = ["name", "info"].map(|name| product.text(name));
        let rrp = match product.get("rrp") {
            Some(number) if number.starts_with(|first: char| first == '-' || first.is_ascii_digit()) => {
                number.to_owned()
            }
            _ => product.text("rrp").ok()?.unwrap_or_default(),
        };
        let details = Details { name: name.ok()??, rrp, info: info.ok()?.unwrap_or_default() };
        let id = match product.get("id") {
            None | Some("null" | "\"\"") => None,
            Some(_) => Some(product.text("id").ok()??).filter(|id| is_id(id)).map(Some)?,
        };
        keeps_bounds(&details).then_some((id, details))
    });
    assert_eq!(taken.as_ref().ok(), expected.as_ref());
    check_body_error(taken.err(), value);
}

/// A merge patch: what it does not have stays, null removes a text, and every other member is an error.
fn check_patch(body: &[u8]) {
    const MEMBERS: [&str; 5] = ["id", "name", "rrp", "info", "hidden"];
    let taken = wire::parse_product_patch(body, "A1");
    let value = std::str::from_utf8(body).ok().and_then(json::value);
    let expected = value.and_then(Object::read).and_then(|patch| {
        let is_known = |name: &Option<String>| name.as_deref().is_some_and(|name| MEMBERS.contains(&name));
        if !patch.0.iter().all(|(name, _)| is_known(name)) || patch.text("id").ok()?.is_some_and(|id| id != "A1") {
            return None;
        }
        let text = |name: &str| match patch.get(name) {
            Some("null") if name != "name" => Some(Some(String::new())),
            Some(number) if name == "rrp" && json::is_number(number) => Some(Some(number.to_owned())),
            _ => patch.text(name).ok(),
        };
        let is_hidden = match patch.get("hidden") {
            None => None,
            Some(value) => Some(["true", "false"].contains(&value).then_some(value == "true")?),
        };
        Some(ProductPatch { name: text("name")?, rrp: text("rrp")?, info: text("info")?, is_hidden })
    });
    assert_eq!(taken.as_ref().ok(), expected.as_ref());
    check_body_error(taken.err(), value);
}

fn check_period(body: &[u8]) {
    let taken = wire::parse_period(body);
    let value = std::str::from_utf8(body).ok().and_then(json::value);
    let number = value.and_then(Object::read).and_then(|close| amount(close.get("number")?).ok());
    let expected = number.filter(|number| (1..=MAX_TOTAL).contains(number)).map(i64::cast_unsigned);
    assert_eq!(taken.as_ref().ok(), expected.as_ref());
    check_body_error(taken.err(), value);
}

fn is_id(text: &str) -> bool {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_".contains(letter);
    (1..=MAX_ID_BYTES).contains(&text.len()) && text.chars().all(plain)
}

/// Whether the texts of a product are valid.
#[must_use]
pub fn keeps_bounds(details: &Details) -> bool {
    let Details { name, rrp, info } = details;
    let short = name.len() <= MAX_NAME_BYTES && rrp.len() <= MAX_NAME_BYTES && info.len() <= MAX_INFO_BYTES;
    let plain = [name, rrp, info].iter().all(|text| !text.contains(char::is_control));
    short && plain && name.chars().any(|letter| !letter.is_whitespace())
}

/// The error is `Malformed` for what is not JSON, and `Invalid` for anything else.
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

/// All orders are accepted or none, and there is one result for each.
fn check_batch(taken: Result<Vec<BatchOrder>, BatchError>, expected: &[Option<BatchOrder>], is_ndjson: bool) {
    match taken {
        Ok(lines) => {
            assert!((1..=MAX_BATCH).contains(&lines.len()));
            assert!(lines.iter().map(Some).eq(expected.iter().map(Option::as_ref)));
            let results = wire::batch_results(lines.iter().map(|line| line.key.as_ref()), is_ndjson);
            let results: Vec<&str> = if is_ndjson {
                results.lines().map(|line| json::value(line).expect("a result is JSON")).collect()
            } else {
                json::value(&results).and_then(json::items).expect("results are an array")
            };
            assert_eq!(results.len(), lines.len());
            for (result, line) in results.into_iter().zip(&lines) {
                check_accepted(result, line.key.as_ref().map(Key::as_str));
            }
        }
        Err(BatchError::Orders(lines)) => {
            assert!((1..=MAX_BATCH).contains(&lines.len()) && lines.iter().any(Result::is_err));
            assert!(lines.iter().map(|line| line.as_ref().ok()).eq(expected.iter().map(Option::as_ref)), "{lines:?}");
            // Not all, because a thousand would take most of the fuzzer's time and find nothing more.
            check_rejection(&lines[..lines.len().min(CHECKED_RESULTS)]);
        }
        Err(BatchError::Body(error)) => {
            assert!(expected.is_empty() || expected.len() > MAX_BATCH, "{error}");
            assert!(matches!(error, BodyError::Invalid(_)), "{error}");
        }
    }
}

fn check_rejection(lines: &[Result<BatchOrder, String>]) {
    let result = |line: &Result<BatchOrder, String>| match line {
        Ok(line) => (line.key.clone(), None),
        Err(error) => (None, Some(error.clone())),
    };
    let orders: Vec<(Option<Key>, Option<String>)> = lines.iter().map(result).collect();
    let results = orders.iter().map(|(key, error)| (key.as_ref(), error.as_deref()));
    let problem = wire::batch_problem(422, "title", "detail", results);
    let object = json::value(&problem).and_then(Object::read).expect("a problem is an object");
    assert_eq!((object.get("status"), object.text("detail")), (Some("422"), Ok(Some("detail".to_owned()))));
    let results = object.get("results").and_then(json::items).expect("results are an array");
    assert_eq!(results.len(), orders.len());
    for (result, (key, error)) in results.into_iter().zip(orders) {
        let result = Object::read(result).expect("a result is an object");
        assert_eq!((result.get("ok"), result.text("error")), (Some("false"), Ok(error)));
        assert_eq!(result.text("key"), Ok(key.map(|key| key.as_str().to_owned())));
    }
}

/// The answer to an accepted order: `ok` is true, and the key is repeated.
fn check_accepted(answer: &str, key: Option<&str>) {
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
    check_accepted(&wire::ok_message(key.as_deref()), key.as_deref());
}

fn check_answer(answer: &str, name: &str, text: &str, key: Option<&str>) {
    let object = json::value(answer).and_then(Object::read).expect("the answer is an object");
    assert_eq!(object.text(name), Ok(Some(text.to_owned())), "{answer}");
    assert_eq!(object.text("key"), Ok(key.map(str::to_owned)), "{answer}");
    assert_eq!(object.0.len(), 1 + usize::from(key.is_some()), "{answer}");
}

/// The command in a message, or the key that its rejection repeats.
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

/// A line of the log is one object, whatever its texts are.
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
    if let Ok(amount) = taken {
        // Every integer of the range has an exact double, and std rounds correctly: it must find the same number.
        assert_eq!(text.parse(), Ok(double(amount)), "{text}");
    }
}

#[expect(clippy::cast_precision_loss, reason = "integers up to MAX_TOTAL are exact")]
fn double(amount: i64) -> f64 {
    assert!((-MAX_TOTAL..=MAX_TOTAL).contains(&amount));
    amount as f64
}

/// The value of a JSON number, found by moving the decimal point in its text.
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
    // Of an exponent beyond i64 only the sign matters, because no text has that many digits.
    let limit = if exponent.starts_with('-') { i64::MIN / 2 } else { i64::MAX / 2 };
    let exponent = exponent.parse::<i64>().map_or(limit, |exponent| exponent.clamp(i64::MIN / 2, i64::MAX / 2));
    let digits = format!("{whole}{fraction}");
    let zeros = digits.len() - digits.trim_start_matches('0').len();
    let digits = digits.trim_matches('0');
    if digits.is_empty() {
        return Ok(0);
    }
    // The number of digits before the moved point.
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
