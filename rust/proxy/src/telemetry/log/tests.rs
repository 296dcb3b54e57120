use std::io::Write;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, Sender, channel};

use super::*;
use crate::telemetry::access_log::Direction;
use crate::telemetry::access_log::Ending;

const SOON: Duration = Duration::from_secs(30);

/// An output that hands over what it is given, one write at a time, and takes none while its gate is shut.
struct Watched {
    writes: Sender<String>,
    gate: Option<Receiver<()>>,
}

impl Write for Watched {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(gate) = &self.gate {
            let _ = gate.recv();
        }
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        self.writes.send(text).map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn logger(filter: &str, gate: Option<Receiver<()>>) -> (Logger, Receiver<String>, Arc<Losses>) {
    let (writes, written) = channel();
    let losses = Arc::new(Losses::default());
    let sink = Sink::to(Watched { writes, gate });
    let filter = filter.parse().unwrap();
    let logger = Logger::with_sink(
        (Format::Plain, Format::Plain),
        filter,
        sink,
        Arc::clone(&losses),
    )
    .unwrap();
    (logger, written, losses)
}

/// All that was written, once the log is closed.
fn everything(logger: &Logger, written: &Receiver<String>) -> String {
    assert!(logger.shut_down(SOON));
    written.try_iter().collect()
}

#[test]
fn lines_arrive_in_order_and_only_those_that_the_filter_lets_through() {
    let (logger, written, losses) = logger("info,app=warn", None);
    logger.info("proxy", "one", &[]);
    logger.debug("proxy", "two", &[]);
    logger.info("app", "three", &[]);
    logger.warn("app", "four", &[("count", Value::Number(4))]);
    logger.set_filter("debug".parse().unwrap());
    logger.debug("app", "five", &[]);
    let text = everything(&logger, &written);
    let messages: Vec<_> = text
        .lines()
        .map(|line| line.splitn(4, '\t').nth(3).unwrap())
        .collect();
    assert_eq!(messages, ["one\t", "four\tcount=4", "five\t"]);
    assert_eq!(losses.operational.load(Relaxed), 0);
}

#[test]
fn a_filter_is_changed_while_the_log_runs_and_reset_to_that_of_the_start() {
    let (logger, _, _) = logger("info,access=warn", None);
    let change = |reset, directives| {
        let changed = logger.change_filter(reset, directives);
        changed.map(|filter| filter.to_string()).ok()
    };
    for (reset, directives, shown) in [
        (false, None, Some("access=warn,info")),
        (false, Some("dns=debug"), Some("access=warn,dns=debug,info")),
        (false, Some("trace,bogus"), None),
        (false, None, Some("access=warn,dns=debug,info")),
        (true, Some("access:off,debug"), Some("access=off,debug")),
        (true, Some("bogus"), None),
        (false, None, Some("access=off,debug")),
        (true, None, Some("access=warn,info")),
    ] {
        assert_eq!(
            change(reset, directives).as_deref(),
            shown,
            "{reset} {directives:?}"
        );
    }
}

#[test]
fn access_lines_go_the_same_way() {
    let (logger, written, _) = logger("off,access=warn", None);
    let denied = Denied {
        source: ([127, 0, 0, 1], 1).into(),
        destination: Some(([127, 0, 0, 1], 2).into()),
        direction: Direction::Inbound,
        error: "no",
        ending: Ending::default(),
    };
    logger.access_denied("not_tls", &denied);
    logger.set_filter("access=error".parse().unwrap());
    logger.access_denied("not_tls", &denied);
    let text = everything(&logger, &written);
    assert_eq!(text.matches("connection failed").count(), 1);
}

#[test]
fn a_flood_of_denials_is_told_by_its_number_and_hides_no_other_reason() {
    let (logger, written, losses) = logger("info", None);
    let denied = |error| Denied {
        source: ([127, 0, 0, 1], 1).into(),
        destination: Some(([127, 0, 0, 1], 2).into()),
        direction: Direction::Inbound,
        error,
        ending: Ending::default(),
    };
    for _ in 0..10_000 {
        logger.access_denied("not_tls", &denied("not TLS"));
    }
    logger.access_denied("overload", &denied("too many"));
    let text = everything(&logger, &written);
    let lines = text.matches("not TLS").count();
    assert!(lines >= 100, "{lines}");
    let held = losses.suppressed.load(Relaxed);
    assert_eq!(lines as u64 + held, 10_000);
    assert!(held > 0, "this does not take a hundred seconds");
    assert_eq!(text.matches("too many").count(), 1);
    let told: u64 = text
        .lines()
        .filter(|line| line.contains("class=\"not_tls\""))
        .filter_map(|line| {
            line.split("suppressed ")
                .nth(1)?
                .split(' ')
                .next()?
                .parse::<u64>()
                .ok()
        })
        .sum();
    assert_eq!(told, held);
}

#[test]
fn a_stuck_output_stops_nobody_and_the_loss_is_told() {
    let (open, gate) = channel();
    let (logger, written, losses) = logger("info", Some(gate));
    for _ in 0..12_000 {
        logger.info("proxy", "line", &[]);
    }
    let lost = losses.operational.load(Relaxed);
    assert!((1900..=2000).contains(&lost), "{lost}");
    assert!(!logger.flush(Duration::from_millis(10)), "it is stuck");

    drop(open); // and it moves again
    let text = everything(&logger, &written);
    assert_eq!(text.matches("\tline\t").count() as u64 + lost, 12_000);
    assert_eq!(
        text.matches("log lines dropped; the output is too slow\tcount=")
            .count(),
        1
    );
    assert!(text.contains(&format!("count={lost}\n")));
}

#[test]
fn long_lines_fill_the_queue_sooner() {
    let (_open, gate) = channel();
    let (logger, _written, losses) = logger("info", Some(gate));
    let long = "x".repeat(100_000);
    for _ in 0..200 {
        logger.info("proxy", &long, &[]);
    }
    assert!(losses.operational.load(Relaxed) > 100);
}

#[test]
fn many_lines_share_a_write() {
    let (open, gate) = channel();
    let (logger, written, _) = logger("info", Some(gate));
    for _ in 0..640 {
        logger.info("proxy", "line", &[]);
    }
    drop(open);
    assert!(logger.shut_down(SOON));
    let sizes: Vec<_> = written
        .try_iter()
        .map(|text| text.lines().count())
        .collect();
    assert_eq!(sizes.iter().sum::<usize>(), 640);
    assert!(sizes.iter().all(|size| *size <= 64), "{sizes:?}");
    assert!(sizes.len() <= 11, "{sizes:?}");
}

#[test]
fn repeated_lines_are_held_back_and_their_number_is_told() {
    let (logger, written, losses) = logger("info", None);
    for _ in 0..500 {
        logger.repeating(Level::Warn, "accept", "proxy", "accept failed", &[]);
    }
    let text = everything(&logger, &written);
    let shown = text.matches("accept failed").count() as u64;
    let held = losses.suppressed.load(Relaxed);
    assert_eq!(shown + held, 500);
    assert!(shown < 500);
    let told: u64 = text
        .lines()
        .filter_map(|line| line.split_once("suppressed ")?.1.split_once(' '))
        .map(|(count, _)| count.parse::<u64>().unwrap())
        .sum();
    assert_eq!(told, held);
    assert!(text.contains(" similar messages\tclass=\"accept\"\n"));
}

#[test]
fn what_was_held_back_is_told_though_no_other_line_comes() {
    let (logger, written, _) = logger("info", None);
    for _ in 0..20 {
        logger.repeating(Level::Warn, "accept", "proxy", "accept failed", &[]);
    }
    let told = std::iter::from_fn(|| written.recv_timeout(SOON).ok())
        .any(|text| text.contains("suppressed "));
    assert!(told);
}

#[test]
fn a_closed_log_drops_and_counts() {
    let (logger, written, losses) = logger("info", None);
    assert!(logger.shut_down(SOON));
    logger.info("proxy", "too late", &[]);
    assert_eq!(losses.operational.load(Relaxed), 1);
    assert!(written.try_iter().all(|text| !text.contains("too late")));
}

#[test]
fn a_failing_output_costs_its_lines_and_nothing_else() {
    let (logger, written, losses) = logger("info", None);
    drop(written); // every write fails now
    logger.info("proxy", "lost", &[]);
    assert!(logger.flush(SOON));
    logger.info("proxy", "lost too", &[]);
    assert!(logger.flush(SOON));
    assert_eq!(losses.operational.load(Relaxed), 2);
}

#[test]
fn a_full_pipe_that_does_not_block_is_waited_for() {
    struct Shy(Sender<String>, u32);
    impl Write for Shy {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.1 += 1;
            if self.1 % 2 == 1 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let half = bytes.len().div_ceil(2);
            let text = String::from_utf8(bytes[..half].to_vec()).unwrap();
            self.0.send(text).map_err(io::Error::other)?;
            Ok(half)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let (writes, written) = channel();
    let sink = Sink::to(Shy(writes, 0));
    let losses = Arc::<Losses>::default();
    let logger = Logger::with_sink(
        (Format::Plain, Format::Plain),
        Filter::default(),
        sink,
        Arc::clone(&losses),
    )
    .unwrap();
    logger.info("proxy", "in pieces", &[]);
    assert!(logger.flush(SOON));
    let text: String = written.try_iter().collect();
    assert!(text.ends_with("\tin pieces\t\n"), "{text}");
    assert_eq!(losses.operational.load(Relaxed), 0);
}

#[test]
fn a_file_is_appended_to() {
    let path = std::env::temp_dir().join(format!("ztunnel-log-{}", std::process::id()));
    for message in ["first", "second"] {
        let settings = Settings {
            format: Format::Json,
            access: None,
            output: Output::File(path.clone()),
            filter: Filter::default(),
        };
        let logger = Logger::start(settings, Arc::default()).unwrap();
        logger.info("app", message, &[]);
        assert!(logger.shut_down(SOON));
    }
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let messages: Vec<_> = text
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["message"].clone())
        .collect();
    assert_eq!(messages, ["first", "second"]);
}

#[test]
fn the_writer_ends_with_the_last_handle() {
    let (logger, written, _) = logger("info", None);
    logger.info("proxy", "last words", &[]);
    let other = logger.clone();
    drop(logger);
    drop(other);
    let text: String = std::iter::from_fn(|| written.recv_timeout(SOON).ok()).collect();
    assert!(text.contains("last words"));
    assert!(written.recv().is_err(), "the writer let go of the output");
}
