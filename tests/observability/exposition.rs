//! A strict reader of the text format 0.0.4 of Prometheus. It rejects what the format forbids, and what the format allows
//! and this server never sends: timestamps, empty lines, comments, metrics without a help text or a type.

use std::collections::{BTreeMap, BTreeSet};

use crate::common::{Client, Server};

/// The labels of one series.
pub type Labels = BTreeMap<String, String>;

/// One answer to `GET /metrics`.
#[derive(Debug, Default)]
pub struct Scrape {
    /// The type of each metric.
    pub types: BTreeMap<String, String>,
    /// The value of each series, by the sample's name and its labels.
    pub series: BTreeMap<(String, Labels), f64>,
}

impl Scrape {
    /// Asks for the metrics and reads them.
    #[track_caller]
    pub fn of(server: &Server) -> Scrape {
        Scrape::by(&mut server.client())
    }

    #[track_caller]
    pub fn by(client: &mut Client) -> Scrape {
        let reply = client.get("/metrics");
        assert_eq!(reply.status, 200, "{reply:?}");
        assert_eq!(reply.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
        assert_eq!(reply.header("cache-control"), Some("no-store"));
        Scrape::parse(reply.text()).unwrap_or_else(|why| panic!("{why} in\n{}", reply.text()))
    }

    /// The value of the series without labels.
    #[track_caller]
    pub fn value(&self, name: &str) -> f64 {
        self.find(name, &[]).unwrap_or_else(|| panic!("there is no {name}"))
    }

    /// The value of the series with this one label.
    #[track_caller]
    pub fn labelled(&self, name: &str, label: &str, value: &str) -> f64 {
        self.find(name, &[(label, value)]).unwrap_or_else(|| panic!("there is no {name} with {label}={value}"))
    }

    pub fn find(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        self.series.get(&(name.to_owned(), labels)).copied()
    }

    /// The sum over all labels.
    pub fn sum(&self, name: &str) -> f64 {
        self.series.iter().filter(|((found, _), _)| found == name).map(|(_, value)| value).sum()
    }

    pub fn parse(text: &str) -> Result<Scrape, String> {
        let body = text.strip_suffix('\n').ok_or("the last line does not end")?;
        let mut scrape = Scrape::default();
        let mut lines = body.split('\n').peekable();
        while let Some(line) = lines.next() {
            let help = line.strip_prefix("# HELP ").ok_or_else(|| format!("no HELP line: {line:?}"))?;
            let (name, help) = help.split_once(' ').ok_or_else(|| format!("no help text: {line:?}"))?;
            if help.trim().is_empty() || help.contains('\\') {
                return Err(format!("the help text {help:?}"));
            }
            let type_line = lines.next().unwrap_or_default();
            let kind = type_line.strip_prefix("# TYPE ").and_then(|rest| rest.strip_prefix(name)?.strip_prefix(' '));
            let kind = kind.ok_or_else(|| format!("no TYPE line of {name}: {type_line:?}"))?;
            if !is_name(name, true) || scrape.types.insert(name.to_owned(), kind.to_owned()).is_some() {
                return Err(format!("the name {name:?}, or it is there twice"));
            }
            let mut samples = Vec::new();
            while let Some(line) = lines.next_if(|line| !line.starts_with("# ")) {
                samples.push(sample(line)?);
            }
            check_family(name, kind, &samples)?;
            for (name, labels, value) in samples {
                if scrape.series.insert((name.clone(), labels.clone()), value).is_some() {
                    return Err(format!("{name} {labels:?} is there twice"));
                }
            }
        }
        Ok(scrape)
    }
}

type Sample = (String, Labels, f64);

/// Whether it is the name of a metric, or, without colons, that of a label.
fn is_name(name: &str, may_have_colons: bool) -> bool {
    let is_letter = |letter: char| letter.is_ascii_alphabetic() || letter == '_' || (may_have_colons && letter == ':');
    name.starts_with(is_letter) && name.chars().all(|letter| is_letter(letter) || letter.is_ascii_digit())
}

fn sample(line: &str) -> Result<Sample, String> {
    let wrong = |what: &str| format!("{what}: {line:?}");
    let (name, rest) = match line.find(['{', ' ']) {
        Some(end) => line.split_at(end),
        None => return Err(wrong("no value")),
    };
    if !is_name(name, true) {
        return Err(wrong("no name"));
    }
    let mut labels = Labels::new();
    let value = match rest.strip_prefix('{') {
        None => rest,
        Some(mut rest) => loop {
            let (label, after) = rest.split_once("=\"").ok_or_else(|| wrong("no label"))?;
            let (text, after) = quoted(after).ok_or_else(|| wrong("no end of a label"))?;
            if !is_name(label, false) || label.starts_with("__") || labels.insert(label.to_owned(), text).is_some() {
                return Err(wrong("a label"));
            }
            match (after.strip_prefix(','), after.strip_prefix('}')) {
                (Some(next), _) => rest = next,
                (_, Some(end)) => break end,
                _ => return Err(wrong("no end of the labels")),
            }
        },
    };
    let value = value.strip_prefix(' ').ok_or_else(|| wrong("no space before the value"))?;
    Ok((name.to_owned(), labels, number(value).ok_or_else(|| wrong("no number"))?))
}

/// The text up to its closing quote, and what follows.
fn quoted(rest: &str) -> Option<(String, &str)> {
    let mut text = String::new();
    let mut letters = rest.char_indices();
    loop {
        match letters.next()? {
            (at, '"') => return Some((text, &rest[at + 1..])),
            (_, '\\') => text.push(match letters.next()?.1 {
                'n' => '\n',
                letter @ ('\\' | '"') => letter,
                _ => return None,
            }),
            (_, letter) => text.push(letter),
        }
    }
}

/// Go's `ParseFloat` without words but `+Inf`.
fn number(text: &str) -> Option<f64> {
    match text {
        "+Inf" => Some(f64::INFINITY),
        _ => text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit() || b".-+e".contains(&byte))),
    }
}

fn check_family(name: &str, kind: &str, samples: &[Sample]) -> Result<(), String> {
    let wrong = |what: &str| Err(format!("{name}: {what}"));
    if samples.is_empty() {
        return wrong("no sample");
    }
    match kind {
        "histogram" => return check_histogram(name, samples),
        "counter" if !name.ends_with("_total") => return wrong("a counter ends in _total"),
        "counter" if samples.iter().any(|(_, _, value)| *value < 0.0) => return wrong("a negative counter"),
        "gauge" if ["_total", "_bucket", "_sum", "_count"].iter().any(|end| name.ends_with(end)) => {
            return wrong("the end of a name that belongs to other types");
        }
        "counter" | "gauge" => {}
        _ => return wrong("an unknown type"),
    }
    let names: BTreeSet<Vec<&String>> = samples.iter().map(|(_, labels, _)| labels.keys().collect()).collect();
    if names.len() != 1 || samples.iter().any(|(own, ..)| own != name) {
        return wrong("other labels, or a foreign sample");
    }
    Ok(())
}

/// Buckets in ascending order with counts that do not fall, the last of them `+Inf` with the count; then sum and count.
fn check_histogram(name: &str, samples: &[Sample]) -> Result<(), String> {
    let wrong = |what: &str| Err(format!("{name}: {what}"));
    let [buckets @ .., (sum_name, sum_labels, sum), (count_name, count_labels, count)] = samples else {
        return wrong("no sum and count");
    };
    let is_end = *sum_name == format!("{name}_sum") && *count_name == format!("{name}_count");
    if !is_end || !sum_labels.is_empty() || !count_labels.is_empty() || sum.is_nan() || *sum < 0.0 {
        return wrong("its sum or count");
    }
    let (mut last_bound, mut last_count) = (f64::NEG_INFINITY, 0.0);
    for (own, labels, value) in buckets {
        let bound = labels.get("le").filter(|_| labels.len() == 1).and_then(|bound| number(bound));
        let Some(bound) = bound.filter(|_| *own == format!("{name}_bucket")) else { return wrong("a bucket's line") };
        if bound <= last_bound || *value < last_count {
            return wrong("buckets fall");
        }
        (last_bound, last_count) = (bound, *value);
    }
    if last_bound.is_infinite() && last_count == *count { Ok(()) } else { wrong("+Inf is not the count") }
}

#[test]
fn the_reader_takes_what_the_format_allows_and_rejects_what_it_forbids() {
    let counter =
        "# HELP a_total Things.\n# TYPE a_total counter\na_total{x=\"1\"} 1\na_total{x=\"q\\\"\\\\\\n\"} 2.5\n";
    let histogram = "# HELP h Sizes.\n# TYPE h histogram\nh_bucket{le=\"0.5\"} 1\nh_bucket{le=\"+Inf\"} 3\nh_sum 9\n\
                     h_count 3\n";
    let both = Scrape::parse(&format!("{counter}{histogram}")).unwrap();
    assert_eq!(both.labelled("a_total", "x", "q\"\\\n"), 2.5);
    assert_eq!((both.value("h_count"), both.sum("a_total")), (3.0, 3.5));
    for (text, from, to) in [
        (counter, "a_total{x=\"1\"} 1\n", "a_total{x=\"1\"} 1"),
        (counter, "2.5\n", "2.5"),
        (counter, " 1\n", " one\n"),
        (counter, " 1\n", " 1 1700000000\n"),
        (counter, " 1\n", "  1\n"),
        (counter, " 1\n", " -1\n"),
        (counter, " 1\n", " nan\n"),
        (counter, " 1\n", " 1\n\n"),
        (counter, "# HELP a_total Things.\n", ""),
        (counter, "Things.", ""),
        (counter, "# TYPE a_total counter\n", ""),
        (counter, "TYPE a_total counter", "TYPE a_total summary"),
        (counter, "TYPE a_total counter", "TYPE b_total counter"),
        (counter, "x=\"1\"", "x=1"),
        (counter, "x=\"1\"", "x-y=\"1\""),
        (counter, "x=\"1\"", "x=\"1\",x=\"2\""),
        (counter, "x=\"1\"", "y=\"1\""),
        (counter, "x=\"1\"", "x=\"q\\\"\\\\\\n\""),
        (counter, "{x=\"1\"}", "{x=\"1\""),
        (counter, "\na_total{x=\"1\"} 1", "\nb_total{x=\"1\"} 1"),
        (counter, "\\n", "\\t"),
        (histogram, "h_count 3\n", ""),
        (histogram, "h_count 3", "h_count 4"),
        (histogram, "} 1", "} 4"),
        (histogram, "h_bucket{le=\"+Inf\"} 3\n", ""),
        (histogram, "le=\"0.5\"", "le=\"x\""),
        (histogram, "h_sum 9", "h_sum -9"),
    ] {
        let broken = text.replacen(from, to, 1);
        assert!(broken != text && Scrape::parse(&broken).is_err(), "{broken}");
    }
    let double = format!("{counter}{counter}");
    assert!(Scrape::parse(&double).is_err() && Scrape::parse("").is_err());
    for (from, to) in [("a_total", "a"), ("a_total", "a-total")] {
        assert!(Scrape::parse(&counter.replace(from, to)).is_err(), "{to}");
    }
}
