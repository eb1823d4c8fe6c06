//! `cargo run -- bench update`: what an update costs the machine that takes it.

#![allow(clippy::print_stdout, clippy::print_stderr)]

use super::demo::Show;
use crate::bench::page::{self, Section};
use crate::http;
use anyhow::{Context, Result};
use berth_image::Options;
use serde_json::json;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long one question to the page may take.
const ANSWER: Duration = Duration::from_secs(1);
/// Between two.
const AGAIN: Duration = Duration::from_millis(50);

const PAGE: Section = Section {
    heading: "Update",
    intro: "Written by `cargo run -- bench update`. A machine that boots through UEFI and serves a page takes one update; the page is \
            asked for all the while.",
    figures: &[
        ("peak_memory_mib", "memory of the unit that writes, at most, MiB; goal 32"),
        (
            "seconds_without_service",
            "the longest time without an answer: the reboot, firmware and loader included",
        ),
        ("seconds_until_committed", "from the order until the new version is found healthy and kept"),
    ],
};

/// Runs it; `json` prints one object instead of text.
pub fn run(json: bool) -> Result<()> {
    let mut show = Show::begin(&|line| eprintln!("{line}"))?;
    show.up("it serves")?;
    show.offer("2", "a good one", None)?;

    let peak = show.write()?;
    let port = show.web_port();
    let (over, begun) = (AtomicBool::new(false), Instant::now());
    let (taken, gap) = std::thread::scope(|scope| {
        let watcher = scope.spawn(|| longest_gap(port, &over));
        let taken =
            show.take(&format!("update   version 2 took the place of {}", Options::default().version));
        over.store(true, Ordering::Relaxed);
        (taken, watcher.join())
    });
    taken?;
    let gap = gap.ok().context("the page was not watched")?;
    let until_committed = begun.elapsed();
    let peak_mib = peak.div_ceil(1 << 20);
    let numbers = json!({
        "peak_memory_mib": peak_mib,
        "seconds_without_service": round(gap),
        "seconds_until_committed": round(until_committed),
    });
    PAGE.write(&numbers)?;
    page::print(&numbers, json);
    show.end()
}

fn round(time: Duration) -> f64 {
    (time.as_secs_f64() * 10.0).round() / 10.0
}

/// The longest time between two answers of the page.
fn longest_gap(port: u16, over: &AtomicBool) -> Duration {
    let (mut last, mut longest) = (Instant::now(), Duration::ZERO);
    while !over.load(Ordering::Relaxed) {
        if http::get(port, "/", ANSWER).is_ok_and(|page| page.contains(crate::demo::HEADING)) {
            longest = longest.max(last.elapsed());
            last = Instant::now();
        }
        std::thread::sleep(AGAIN);
    }
    longest.max(last.elapsed())
}
