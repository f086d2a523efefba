//! Which paths there are.

use std::sync::PoisonError;

use tiny_http::Method;

use super::feed_options;
use crate::http::problem::Problem;
use crate::http::request::Request;
use crate::live::fanout::Feed;
use crate::tally::catalog::{Catalog, CategoryIndex, MAX_ID_BYTES, ProductIndex, RESERVED_NAMES, SharedCatalog};
use crate::tally::spelling::suggestion;

/// What a path refers to.
pub(super) enum Route {
    /// A file of the web app.
    File,
    Health,
    Ready,
    Metrics,
    Categories,
    Log,
    Periods,
    /// `/periods/{number}`; `None` for the current one.
    Period(Option<u64>),
    Feed(Feed),
    /// `/rates/{category}` and `/rates`.
    Rates(Feed),
    /// `/orders/{id}`: a product to post to.
    Product(ProductIndex),
    Category(CategoryIndex),
    /// `/{category}` of a category that can be created.
    NewCategory(String),
    /// `/{category}/{id}`: a product to change.
    CategoryProduct(ProductIndex),
}

impl Route {
    /// The methods that are allowed.
    pub(super) fn allow(&self) -> &'static str {
        match self {
            Self::File
            | Self::Health
            | Self::Ready
            | Self::Metrics
            | Self::Categories
            | Self::Log
            | Self::Rates(_)
            | Self::Period(_)
            | Self::Feed(Feed::Category(_)) => "GET, HEAD, OPTIONS",
            Self::Product(_) => "POST, OPTIONS",
            Self::Periods | Self::Feed(Feed::All) => "GET, HEAD, POST, OPTIONS",
            Self::Category(_) => "GET, HEAD, POST, PUT, OPTIONS",
            Self::NewCategory(_) => "PUT, OPTIONS",
            Self::CategoryProduct(_) => "PATCH, OPTIONS",
        }
    }

    /// Whether this method is allowed.
    pub(super) fn allows(&self, method: &Method) -> bool {
        self.allow().split(", ").any(|allowed| allowed == method.as_str())
    }

    /// The query parameters that have a meaning here; `None` for the web app's files, whose query is for the page's own
    /// script.
    fn parameters(&self, method: &Method) -> Option<&'static [&'static str]> {
        Some(match self {
            Self::File => return None,
            Self::Log => &["after", "limit", "since", "until", "id", "category"],
            Self::Periods if *method != Method::Post => &["after", "limit"],
            Self::Feed(Feed::All) if *method != Method::Post => feed_options::PARAMETERS_OF_ALL,
            Self::Feed(Feed::Category(_)) if *method != Method::Post => feed_options::PARAMETERS,
            Self::Categories | Self::Category(_) if matches!(method, Method::Get | Method::Head) => &["hidden"],
            _ => &[],
        })
    }

    /// Rejects a query parameter that has no meaning here, so that none is ignored silently.
    #[inline(never)]
    pub(super) fn check_parameters(&self, request: Request<'_>) -> Result<(), Problem> {
        let Some(known) = self.parameters(&request.head().method) else { return Ok(()) };
        let Some((name, _)) = request.parameters().find(|(name, _)| !known.contains(name)) else { return Ok(()) };
        let hint = match known {
            [] => "; this address takes none".to_owned(),
            known => format!("{}; known here: {}", suggestion("", name, known.iter().copied()), known.join(", ")),
        };
        Err(Problem::new(400, format!("there is no parameter {}{hint}", quoted_name(name))))
    }

    /// The route of a request.
    ///
    /// # Errors
    /// 404 if there is none.
    #[inline(never)]
    pub(super) fn find(catalog: &SharedCatalog, request: Request<'_>) -> Result<Self, Problem> {
        let path = without_slash(request.path());
        let catalog = || catalog.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(id) = path.strip_prefix("/orders/") {
            let catalog = catalog();
            if request.head().method == Method::Post {
                return catalog.find_product(id).map(Self::Product).ok_or_else(|| no_product(&catalog, id));
            }
            return match (catalog.find_category(id), catalog.find_product(id)) {
                (Some(index), _) => Ok(Self::Feed(Feed::Category(index))),
                (None, Some(index)) => Ok(Self::Product(index)),
                (None, None) => Err(no_category(id)),
            };
        }
        if let Some(name) = path.strip_prefix("/rates/") {
            let category = catalog().find_category(name).ok_or_else(|| no_category(name))?;
            return Ok(Self::Rates(Feed::Category(category)));
        }
        match path {
            "/rates" => return Ok(Self::Rates(Feed::All)),
            "/orders" => return Ok(Self::Feed(Feed::All)),
            "/categories" => return Ok(Self::Categories),
            "/log" => return Ok(Self::Log),
            "/periods" => return Ok(Self::Periods),
            "/healthz" => return Ok(Self::Health),
            "/readyz" => return Ok(Self::Ready),
            "/metrics" => return Ok(Self::Metrics),
            _ if is_file(path) => return Ok(Self::File),
            _ => {}
        }
        if let Some(name) = path.strip_prefix("/periods/") {
            return period(name).map(Self::Period);
        }
        match path.strip_prefix('/') {
            Some(name) if !name.contains('/') => match find_category(&catalog(), name) {
                Err(_) if creates(request) => new_category(name),
                found => found.map(Self::Category),
            },
            Some(path) if path.matches('/').count() == 1 => {
                let (name, id) = path.split_once('/').unwrap_or_default();
                let catalog = catalog();
                let category = find_category(&catalog, name)?;
                let found = catalog.find_product(id).filter(|index| catalog.product(*index).category == category);
                found.map(Self::CategoryProduct).ok_or_else(|| {
                    let detail = format!("there is no product {} in {name}; GET /{name} lists them", quoted_name(id));
                    Problem::new(404, detail)
                })
            }
            _ => Err(Problem::new(404, "there is nothing at this address; GET /categories lists the categories")),
        }
    }
}

/// The category at `/{category}`, where the routes of this version come first.
fn find_category(catalog: &Catalog, name: &str) -> Result<CategoryIndex, Problem> {
    let index = catalog.find_category(name).ok_or_else(|| no_category(name))?;
    if RESERVED_NAMES.contains(&name) {
        let detail = format!("{name:?} is the name of a route; GET /orders/{name} has the totals of that category");
        return Err(Problem::new(404, detail));
    }
    Ok(index)
}

/// Whether the request creates what its path names, or is the preflight of one that does.
fn creates(request: Request<'_>) -> bool {
    match request.head().method {
        Method::Put => true,
        Method::Options => request.header("Access-Control-Request-Method") == Some("PUT"),
        _ => false,
    }
}

fn new_category(name: &str) -> Result<Route, Problem> {
    if name.len() > MAX_ID_BYTES {
        return Err(Problem::new(422, format!("a category's name has at most {MAX_ID_BYTES} bytes")));
    }
    Ok(Route::NewCategory(name.to_owned()))
}

/// The path without a slash at its end, which many clients send; of several slashes none is removed.
fn without_slash(path: &str) -> &str {
    path.strip_suffix('/').filter(|rest| !rest.is_empty() && !rest.ends_with('/')).unwrap_or(path)
}

/// Whether the path is of a file of the web app: `/`, and every path with a dot, which no category and no other route
/// has.
pub(super) fn is_file(path: &str) -> bool {
    path == "/" || path.contains('.')
}

/// Whether the path is of a health check, which reveals nothing else.
pub(super) fn is_probe(path: &str) -> bool {
    matches!(without_slash(path), "/healthz" | "/readyz")
}

/// Whether the path is of the metrics.
pub(super) fn is_metrics(path: &str) -> bool {
    without_slash(path) == "/metrics"
}

/// The number of a period, as it is written in lists; `None` for `current`.
fn period(name: &str) -> Result<Option<u64>, Problem> {
    if name == "current" {
        return Ok(None);
    }
    let number = name.parse::<u64>().ok().filter(|number| i64::try_from(*number).is_ok() && number.to_string() == name);
    number
        .map(Some)
        .ok_or_else(|| Problem::new(404, format!("there is no period {}; GET /periods lists them", quoted_name(name))))
}

pub(super) fn no_category(name: &str) -> Problem {
    Problem::new(404, format!("there is no category {}; GET /categories lists them", quoted_name(name)))
}

pub(super) fn no_product(catalog: &Catalog, id: &str) -> Problem {
    let hint = match catalog.find_category(id) {
        Some(_) => format!("it is a category, and GET /{id} lists its products"),
        None => "GET /{category} lists the products".to_owned(),
    };
    Problem::new(404, format!("there is no product {}; {hint}", quoted_name(id)))
}

/// A name that a client sent, in quotes. A name that is too long for an id is not repeated.
#[must_use]
pub(super) fn quoted_name(name: &str) -> String {
    if name.len() <= MAX_ID_BYTES { format!("{name:?}") } else { "of this name".to_owned() }
}

#[cfg(test)]
mod tests;
