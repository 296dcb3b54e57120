use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::telemetry::log::{self, Filter, Format, Losses, Output};

fn key(name: &str) -> Arc<str> {
    format!("ns/{name}").into()
}

fn allowed(by: Option<&str>, notes: Vec<Note>) -> Decision {
    Decision {
        verdict: Verdict::Allow,
        allowed_by: by.map(key),
        notes,
    }
}

fn denied(reason: Reason) -> Decision {
    Decision {
        verdict: Verdict::Deny(reason),
        allowed_by: None,
        notes: Vec::new(),
    }
}

/// What is written at this level of the log, without the times.
fn written(filter: &str, level: Level, decisions: &[Decision]) -> (Vec<String>, String) {
    let name = format!(
        "ztunnel-policy-{}-{:?}",
        std::process::id(),
        std::thread::current().id()
    );
    let path = std::env::temp_dir().join(name);
    let settings = log::Settings {
        format: Format::Plain,
        access: None,
        output: Output::File(path.clone()),
        filter: filter.parse::<Filter>().unwrap(),
    };
    let losses = Arc::new(Losses::default());
    let logger = Logger::start(settings, losses.clone()).unwrap();
    let metrics = Metrics::new("test", losses);
    for decision in decisions {
        write_down(&logger, &metrics, level, decision);
    }
    assert!(logger.flush(Duration::from_secs(30)));
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let lines = text
        .lines()
        .map(|line| line.split_once('\t').unwrap().1.to_owned());
    (lines.collect(), metrics.encode())
}

#[test]
fn every_verdict_and_every_dry_run_has_its_line_with_the_policy_that_decided() {
    let decisions = [
        denied(Reason::DeniedBy(key("no"))),
        denied(Reason::NotAllowed),
        allowed(Some("yes"), vec![]),
        allowed(
            None,
            vec![Note::DryRunDeny(key("dry")), Note::DryRunAllow(key("wet"))],
        ),
        allowed(None, vec![Note::DryRunNotAllowed]),
    ];
    for (level, name) in [(Level::Info, "info"), (Level::Debug, "debug")] {
        let (lines, _) = written("debug", level, &decisions);
        let expected = [
            "deny policy match\tpolicy=\"ns/no\"",
            "no allow policies match",
            "allow policy match\tpolicy=\"ns/yes\"",
            "dry-run: deny policy match\tpolicy=\"ns/dry\"",
            "dry-run: allow policy match\tpolicy=\"ns/wet\"",
            "no allow policies exist",
            "dry-run: no allow policies match",
            "no allow policies exist",
        ];
        let expected = expected.map(|rest| format!("{name}\trbac\t{rest}"));
        assert_eq!(lines, expected);
    }
}

#[test]
fn verdicts_are_silent_at_info_unless_that_was_asked_for() {
    let decision = allowed(Some("yes"), vec![Note::DryRunDeny(key("dry"))]);
    let (lines, metrics) = written("info", Level::Debug, &[decision]);
    assert!(lines.is_empty());
    assert!(!metrics.contains("unknown_policies"));
}

#[test]
fn a_policy_that_nobody_knows_is_a_warning_and_is_counted() {
    let unknown = || allowed(None, vec![Note::UnknownPolicy(key("gone"))]);
    let (lines, metrics) = written("info", Level::Debug, &[unknown(), unknown()]);
    let expected = "warn\trbac\tskipping unknown policy ns/gone\tpolicy=\"ns/gone\"";
    assert_eq!(lines, [expected; 2]);
    assert!(metrics.contains("\nistio_unknown_policies_total 2\n"));
    let help = "# HELP istio_unknown_policies ";
    let help = metrics.lines().find(|line| line.starts_with(help)).unwrap();
    assert!(help.contains("unstable"));
}
