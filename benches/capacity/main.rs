//! The tables of the plan in docs/scaling.md, computed from what was measured: `cargo bench --bench capacity`.
//!
//! To plan with the figures of another machine, change `plan/measured.rs`. A test compares the document with the tables.

mod plan;

fn main() {
    println!("{}", plan::tables::all().join("\n"));
}
