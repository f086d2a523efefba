//! The OpenAPI document names the routes, methods and parameters that there are, and no others.

use std::collections::BTreeSet;
use std::sync::{Arc, RwLock};

use serde_json::Value;

use super::*;
use crate::http::request::Head;
use crate::tally::catalog::Details;

macro_rules! templates {
    ($($route:pat => $path:literal,)*) => {
        /// The path of a route in the document. Exhaustive, so that no route is forgotten.
        fn template(route: &Route) -> &'static str {
            match route { $($route => $path),* }
        }

        const TEMPLATES: &[&str] = &[$($path),*];
    };
}

templates! {
    Route::File => "/",
    Route::Health => "/healthz",
    Route::Ready => "/readyz",
    Route::Metrics => "/metrics",
    Route::Categories => "/categories",
    Route::Log => "/log",
    Route::Periods => "/periods",
    Route::Period(_) => "/periods/{number}",
    Route::Feed(Feed::All) => "/orders",
    Route::Feed(Feed::Category(_)) => "/orders/{name}",
    Route::Rates(Feed::All) => "/rates",
    Route::Rates(Feed::Category(_)) => "/rates/{category}",
    Route::Product(_) => "/orders/{name}",
    Route::Category(_) => "/{category}",
    Route::NewCategory(_) => "/{category}",
    Route::CategoryProduct(_) => "/{category}/{id}",
}

fn document() -> Value {
    serde_json::from_str(include_str!("../openapi.json")).unwrap()
}

/// The value itself, or what its `$ref` names.
fn resolved<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    let reference = value["$ref"].as_str().and_then(|reference| reference.strip_prefix('#'));
    reference.map_or(value, |pointer| document.pointer(pointer).unwrap_or_else(|| panic!("there is no {pointer}")))
}

/// Path, method and parameters of every operation.
fn operations(document: &Value) -> Vec<(&str, String, Vec<&Value>)> {
    let list = |value: &'_ Value| value.as_array().cloned().unwrap_or_default().len();
    let mut found = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap().iter().filter(|(name, _)| *name != "parameters") {
            let own = &operation["parameters"];
            // Those of the operation come first, because they replace those of its path.
            let parameters = (0..list(own)).map(|index| &own[index]);
            let parameters = parameters.chain((0..list(&item["parameters"])).map(|index| &item["parameters"][index]));
            let parameters = parameters.map(|parameter| resolved(document, parameter)).collect();
            found.push((path.as_str(), method.to_ascii_uppercase(), parameters));
        }
    }
    found
}

/// The route that an operation's example leads to.
fn route(path: &str, method: &Method, parameters: &[&Value]) -> Route {
    let mut catalog = Catalog::default();
    let details = || Details { name: "x".into(), rrp: String::new(), info: String::new() };
    let electronics = catalog.add_category("electronics", "A").unwrap();
    catalog.add_product(electronics, "A1", details()).unwrap();
    let mut target = path.to_owned();
    for parameter in parameters.iter().filter(|parameter| parameter["in"] == "path") {
        let name = format!("{{{}}}", parameter["name"].as_str().unwrap());
        target = target.replace(&name, parameter["example"].as_str().unwrap());
    }
    let bytes = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let head = Head::parse(bytes.as_bytes()).unwrap().unwrap();
    let found = Route::find(&Arc::new(RwLock::new(catalog)), head.request(bytes.as_bytes()));
    found.unwrap_or_else(|problem| panic!("{method} {target}: {problem:?}"))
}

/// The files that the document names beside the page.
fn is_named_file(path: &str) -> bool {
    path.contains('.')
}

#[test]
fn the_document_names_every_route_and_no_other() {
    let document = document();
    let named: BTreeSet<&str> = document["paths"].as_object().unwrap().keys().map(String::as_str).collect();
    let known = TEMPLATES.iter().copied().collect();
    let files: BTreeSet<_> = named.iter().copied().filter(|path| is_named_file(path)).collect();
    assert_eq!(files, BTreeSet::from(["/openapi.json", "/ordercast.js"]));
    assert_eq!(named.difference(&files).copied().collect::<BTreeSet<_>>(), known);
    for (path, method, parameters) in operations(&document) {
        let route = route(path, &method.parse().unwrap(), &parameters);
        assert_eq!(template(&route), if is_named_file(path) { "/" } else { path }, "{method} {path}");
    }
}

#[test]
fn the_document_names_the_methods_of_every_route_but_head_and_options() {
    let document = document();
    for path in document["paths"].as_object().unwrap().keys() {
        let own: Vec<_> = operations(&document).into_iter().filter(|(own, ..)| own == path).collect();
        let named: BTreeSet<String> = own.iter().map(|(_, method, _)| method.clone()).collect();
        let mut allowed = BTreeSet::new();
        for (_, method, parameters) in own {
            let route = route(path, &method.parse().unwrap(), &parameters);
            assert!(route.allows(&method.parse().unwrap()), "{method} {path}");
            let methods = route.allow().split(", ").map(str::to_owned).collect::<BTreeSet<_>>();
            assert!(methods.contains("OPTIONS") && methods.contains("HEAD") == methods.contains("GET"), "{path}");
            allowed.extend(methods);
        }
        allowed.retain(|method| method != "OPTIONS" && method != "HEAD");
        assert_eq!(named, allowed, "{path}");
    }
}

#[test]
fn the_document_names_the_parameters_of_every_route_and_no_others() {
    for (path, method, parameters) in operations(&document()) {
        let method: Method = method.parse().unwrap();
        let known = route(path, &method, &parameters).parameters(&method).unwrap_or_default();
        let queried = parameters.iter().filter(|parameter| parameter["in"] == "query");
        let named: BTreeSet<&str> = queried.map(|parameter| parameter["name"].as_str().unwrap()).collect();
        assert_eq!(named, known.iter().copied().collect(), "{method} {path}");
    }
}
