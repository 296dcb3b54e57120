//! `load`: the two ends of every workload of bench/macro, each one thread (`beside` has two).
//!
//! It measures what a client sees, in one line of JSON on standard output; what the proxies between used is the
//! harness's business. Every run is bounded in time, in number, and by a grace period after which it fails.
//! Counterpart: `bench/macro/load.py`, which starts it.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program: its output is its result"
)]

mod beside;
mod bulk;
mod client;
mod fresh;
mod idle;
mod rtt;
mod samples;
mod server;
mod sys;

use std::collections::HashMap;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};

use crate::client::Target;

const USAGE: &str = "\
load serve  --listen ADDR
load bulk   --to ADDR [--streams 1] [--dir up|down] [--seconds 3]
load rtt    --to ADDR [--conns 1] [--size 128] [--seconds 3] [--every MILLISECONDS]
load fresh  --to ADDR [--parallel 1] [--size 1] [--seconds 3] [--count N] [--spread N] [--hold]
load idle   --to ADDR [--count 1000] [--parallel 16] [--size 1]     until its input ends
load beside --to ADDR [--size 128] [--seconds 3]                    see src/beside.rs
every client: [--mark N] sets SO_MARK";

/// What root can have without asking for more than Linux gives by default (fs.nr_open).
const DESCRIPTORS: u64 = 1 << 20;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    sys::raise_descriptors(DESCRIPTORS);
    match run(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("load {}: {error}", words.join(" "));
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[String]) -> io::Result<()> {
    let (verb, options) = words.split_first().ok_or_else(|| usage("no verb"))?;
    let options = Options::parse(options)?;
    if verb == "serve" {
        let mut server = server::Server::bind(options.get("listen", None)?)?;
        say(&json!({ "ready": server.address()?.to_string() }))?;
        return server.run();
    }
    let target = Target {
        to: options.get("to", None)?,
        mark: options.optional("mark")?,
    };
    let time = Duration::from_secs_f64(options.get("seconds", Some(3.0))?);
    let size: u64 = options.get(
        "size",
        Some(if verb == "rtt" || verb == "beside" {
            128
        } else {
            1
        }),
    )?;
    let bytes = usize::try_from(size).map_err(io::Error::other)?;
    match verb.as_str() {
        "bulk" => say(&bulk::run(
            target,
            options.get("streams", Some(1))?,
            direction(&options)?,
            time,
        )?),
        "rtt" => say(&rtt::run(
            target,
            options.get("conns", Some(1))?,
            bytes,
            time,
            Duration::from_millis(options.get("every", Some(0))?),
        )?),
        "fresh" => say(&fresh::run(target, plan(&options, size, time)?)?),
        "idle" => idle(target, &options, size),
        "beside" => say(&beside::run(target, bytes, time, |step| {
            say(&json!({ "step": step }))
        })?),
        other => Err(usage(&format!("no verb {other:?}"))),
    }
}

fn plan(options: &Options, size: u64, time: Duration) -> io::Result<fresh::Plan> {
    Ok(fresh::Plan {
        parallel: options.get("parallel", Some(1))?,
        size,
        time,
        count: options.get("count", Some(u64::MAX))?,
        spread: options.get("spread", Some(1))?,
        hold: options.flag("hold"),
    })
}

/// Opens connections, says so, and keeps them until it is told to end.
fn idle(target: Target, options: &Options, size: u64) -> io::Result<()> {
    let count = options.get("count", Some(1000))?;
    let parallel = options.get("parallel", Some(16))?;
    let (open, told) = idle::open(target, count, parallel, size)?;
    say(&told)?;
    idle::wait()?;
    drop(open);
    Ok(())
}

fn direction(options: &Options) -> io::Result<bulk::Direction> {
    match options.get("dir", Some("up".to_owned()))?.as_str() {
        "up" => Ok(bulk::Direction::Up),
        "down" => Ok(bulk::Direction::Down),
        other => Err(usage(&format!("--dir {other:?}"))),
    }
}

fn say(value: &Value) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{value}")?;
    out.flush()
}

fn usage(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("{what}\n{USAGE}"))
}

/// `--name value`, and `--hold`.
struct Options(HashMap<String, String>);

impl Options {
    const KNOWN: [&str; 13] = [
        "listen", "to", "mark", "seconds", "size", "streams", "dir", "conns", "parallel", "count",
        "spread", "hold", "every",
    ];

    fn parse(words: &[String]) -> io::Result<Self> {
        let mut found = HashMap::new();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let name = word
                .strip_prefix("--")
                .filter(|name| Self::KNOWN.contains(name));
            let name = name.ok_or_else(|| usage(&format!("no option {word:?}")))?;
            let value = match name {
                "hold" => String::new(),
                _ => words
                    .next()
                    .ok_or_else(|| usage(&format!("--{name} needs a value")))?
                    .clone(),
            };
            found.insert(name.to_owned(), value);
        }
        Ok(Self(found))
    }

    fn get<T: std::str::FromStr>(&self, name: &str, default: Option<T>) -> io::Result<T> {
        self.optional(name)?
            .or(default)
            .ok_or_else(|| usage(&format!("--{name} is missing")))
    }

    fn optional<T: std::str::FromStr>(&self, name: &str) -> io::Result<Option<T>> {
        let Some(text) = self.0.get(name) else {
            return Ok(None);
        };
        text.parse()
            .map(Some)
            .map_err(|_| usage(&format!("--{name} {text:?}")))
    }

    fn flag(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }
}
