//! The forms of a report: a table for people, CSV and JSON. Each part is written when it is complete.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write;

use super::{Begin, Span, Sum, minute, timestamp};
use crate::config::{Report as Options, ReportBy, ReportFormat};
use crate::json;
use crate::tally::catalog::{Catalog, ProductIndex};
use crate::tools::ToolError;

/// The longest name in a table; longer ones are cut and end with an ellipsis.
const MAX_NAME: usize = 40;
/// The space between two columns.
const GAP: &str = "  ";

pub(super) struct Output<'a, W> {
    options: &'a Options,
    catalog: &'a Catalog,
    /// The place of each product in the order of the categories.
    places: Vec<usize>,
    /// The widths of the columns category, product and name.
    widths: [usize; 3],
    to: &'a mut W,
    parts: u64,
}

/// A product with its sum.
type Line = (ProductIndex, Sum);

impl<'a, W: Write> Output<'a, W> {
    pub(super) fn new(options: &'a Options, begin: &'a Begin, to: &'a mut W) -> Result<Self, ToolError> {
        let catalog = &begin.stored.catalog;
        let mut places = vec![0; catalog.products().len()];
        let in_order = catalog.categories().iter().flat_map(|category| &category.products);
        in_order.enumerate().for_each(|(place, index)| places[index.0 as usize] = place);
        let mut widths = ["category", "product", "name"].map(str::len);
        for product in catalog.products() {
            let category = &catalog.category(product.category).name;
            let name = shown_name(&product.details.name, product.is_hidden);
            for (width, text) in widths.iter_mut().zip([category, &product.id, &name]) {
                *width = (*width).max(text.chars().count());
            }
        }
        let mut output = Self { options, catalog, places, widths, to, parts: 0 };
        let head = output.head(begin);
        output.write(&head)?;
        Ok(output)
    }

    fn write(&mut self, text: &str) -> Result<(), ToolError> {
        self.to.write_all(text.as_bytes()).map_err(ToolError::Output)
    }

    fn head(&self, begin: &Begin) -> String {
        let offset = self.options.utc_offset;
        let (by, columns) = match self.options.by {
            ReportBy::Period => ("period", "period,opened,closed"),
            ReportBy::Day => ("day", "day"),
            ReportBy::Hour => ("hour", "hour"),
        };
        match self.options.format {
            ReportFormat::Table => format!("Orders by {by}, times in UTC{offset}\n"),
            ReportFormat::Csv => format!("{columns},category,id,name,hidden,orders,amount\r\n"),
            ReportFormat::Json => {
                let first = begin.first.map_or("null".to_owned(), |(seq, at_ms)| {
                    format!(r#"{{"seq":{seq},"time":"{}"}}"#, timestamp(offset, at_ms))
                });
                format!(r#"{{"by":"{by}","utc_offset":"{offset}","log_begins":{first},"parts":["#)
            }
        }
    }

    /// Writes a part.
    pub(super) fn part(&mut self, span: &Span, sums: &BTreeMap<u32, Sum>) -> Result<(), ToolError> {
        let products = self.catalog.products().len();
        let mut lines: Vec<Line> = sums.iter().map(|(product, sum)| (ProductIndex(*product), *sum)).collect();
        lines.retain(|(product, _)| (product.0 as usize) < products);
        lines.sort_by_key(|(product, _)| self.places[product.0 as usize]);
        let text = match self.options.format {
            ReportFormat::Table => self.table(span, &lines),
            ReportFormat::Csv => self.csv(span, &lines),
            ReportFormat::Json => self.json(span, &lines),
        };
        self.parts += 1;
        self.write(&text)
    }

    /// Writes what follows the last part.
    pub(super) fn finish(mut self) -> Result<(), ToolError> {
        match self.options.format {
            ReportFormat::Table if self.parts == 0 => self.write("\nThe log has no orders.\n")?,
            ReportFormat::Table | ReportFormat::Csv => {}
            ReportFormat::Json => self.write("\n]}\n")?,
        }
        self.to.flush().map_err(ToolError::Output)
    }

    fn table(&self, span: &Span, lines: &[Line]) -> String {
        let offset = self.options.utc_offset;
        let title = match span {
            Span::Day(ms) => offset.date_and_time(*ms).0,
            Span::Hour(ms) => minute(offset, *ms),
            Span::Period(period, closed_ms) => {
                let opened = minute(offset, period.opened_ms.cast_signed());
                let closed = closed_ms.map(|ms| minute(offset, ms.cast_signed()));
                let until = closed.map_or_else(|| "until now".to_owned(), |closed| format!("to {closed}"));
                format!("Period {}, {opened} {until}", period.number)
            }
        };
        let mut text = format!("\n{title}\n");
        if lines.is_empty() {
            return text + GAP + "no orders\n";
        }
        let all = Sum {
            orders: lines.iter().map(|(_, sum)| sum.orders).sum(),
            amount: lines.iter().map(|(_, sum)| sum.amount).sum(),
        };
        let orders_width = orders_text(all.orders).len().max("orders".len());
        // A negative amount may be longer than the sum of all.
        let amounts = lines.iter().map(|(_, sum)| sum.amount).chain([all.amount]);
        let amount_width = amounts.map(|amount| amount.to_string().len()).max().unwrap_or(0).max("sum".len());
        let mut row = |cells: [&str; 3], orders: &str, amount: &str| {
            for (cell, width) in cells.iter().zip(self.widths) {
                let _ = write!(text, "{GAP}{cell:width$}");
            }
            let _ = writeln!(text, "{GAP}{orders:>orders_width$}{GAP}{amount:>amount_width$}");
        };
        row(["category", "product", "name"], "orders", "sum");
        for (index, sum) in lines {
            let product = self.catalog.product(*index);
            let name = shown_name(&product.details.name, product.is_hidden);
            let cells = [&self.catalog.category(product.category).name, &product.id, &name];
            row(cells.map(String::as_str), &orders_text(sum.orders), &sum.amount.to_string());
        }
        row(["all", "", ""], &orders_text(all.orders), &all.amount.to_string());
        text
    }

    fn csv(&self, span: &Span, lines: &[Line]) -> String {
        let offset = self.options.utc_offset;
        let first = match span {
            Span::Day(ms) => offset.date_and_time(*ms).0,
            Span::Hour(ms) => timestamp(offset, *ms),
            Span::Period(period, closed_ms) => {
                let closed = closed_ms.map_or(String::new(), |ms| timestamp(offset, ms.cast_signed()));
                format!("{},{},{closed}", period.number, timestamp(offset, period.opened_ms.cast_signed()))
            }
        };
        let mut text = String::new();
        for (index, sum) in lines {
            let product = self.catalog.product(*index);
            let category = json::csv_field(&self.catalog.category(product.category).name);
            let (id, name) = (json::csv_field(&product.id), json::csv_text_field(&product.details.name));
            let orders = sum.orders.map_or(String::new(), |orders| orders.to_string());
            let _ = write!(text, "{first},{category},{id},{name},{},{orders},{}\r\n", product.is_hidden, sum.amount);
        }
        text
    }

    fn json(&self, span: &Span, lines: &[Line]) -> String {
        let offset = self.options.utc_offset;
        let members = match span {
            Span::Day(ms) => format!(r#""day":"{}""#, offset.date_and_time(*ms).0),
            Span::Hour(ms) => format!(r#""hour":"{}""#, timestamp(offset, *ms)),
            Span::Period(period, closed_ms) => {
                let closed =
                    closed_ms.map_or("null".to_owned(), |ms| format!("\"{}\"", timestamp(offset, ms.cast_signed())));
                let opened = timestamp(offset, period.opened_ms.cast_signed());
                format!(r#""number":{},"opened":"{opened}","closed":{closed}"#, period.number)
            }
        };
        let comma = if self.parts == 0 { "" } else { "," };
        let mut text = format!("{comma}\n{{{members},\"products\":[");
        for (place, (index, sum)) in lines.iter().enumerate() {
            let product = self.catalog.product(*index);
            let category = &self.catalog.category(product.category).name;
            let [category, id, name] = [category, &product.id, &product.details.name].map(|text| json::quoted(text));
            let orders = sum.orders.map_or("null".to_owned(), |orders| orders.to_string());
            let comma = if place == 0 { "" } else { "," };
            let _ = write!(
                text,
                r#"{comma}{{"category":{category},"id":{id},"name":{name},"hidden":{},"orders":{orders},"amount":{}}}"#,
                product.is_hidden, sum.amount
            );
        }
        text + "]}"
    }
}

fn orders_text(orders: Option<u64>) -> String {
    orders.map_or("?".to_owned(), |orders| orders.to_string())
}

/// The name in a table, on one line.
fn shown_name(name: &str, is_hidden: bool) -> String {
    let mut shown: String = name.chars().take(MAX_NAME).collect();
    if name.chars().nth(MAX_NAME).is_some() {
        shown.pop();
        shown.push('…');
    }
    if is_hidden { shown + " (hidden)" } else { shown }
}
