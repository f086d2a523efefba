//! The board in a real browser, and the server behind real reverse proxies. Needs chromium, chromedriver, nginx, Caddy,
//! HAProxy and axe-core (`make deps`); without them a test is skipped with a message, and fails under CI.
//!
//! A test belongs here if it needs one of these programs.

#[path = "../common/mod.rs"]
mod common;

mod accessibility;
mod board;
mod close;
mod manager;
mod orders;
mod page;
mod proxies;
mod proxy;
mod reflow;
mod shop;
mod stale;
mod till;
mod token;
mod token_paths;
mod unlucky;
mod views;
mod wall;
mod wall_days;
mod webdriver;
