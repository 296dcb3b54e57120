use super::*;

fn missing(readiness: &Readiness) -> Vec<String> {
    readiness.missing().into_iter().collect()
}

#[test]
fn ready_means_that_every_task_is_complete() {
    let readiness = Readiness::new(["state manager", "proxy"], Heartbeats::new(2));
    assert_eq!(missing(&readiness), ["proxy", "state manager"]);
    assert_eq!(readiness.complete("state manager"), Some(1));
    assert_eq!(readiness.complete("state manager"), None);
    assert_eq!(missing(&readiness), ["proxy"]);
    assert_eq!(readiness.complete("proxy"), Some(0));
    assert!(missing(&readiness).is_empty());
    readiness.require("workload proxy manager");
    assert_eq!(missing(&readiness), ["workload proxy manager"]);
}

#[test]
fn a_worker_without_heartbeat_is_named() {
    let heartbeats = Heartbeats::aged(3, Duration::from_secs(6));
    let readiness = Readiness::new(["proxy"], heartbeats.clone());
    heartbeats.beat(1);
    assert_eq!(missing(&readiness), ["proxy", "worker 0", "worker 2"]);
    heartbeats.beat(0);
    heartbeats.beat(2);
    heartbeats.beat(99);
    assert_eq!(missing(&readiness), ["proxy"]);
}

#[test]
fn a_worker_may_be_silent_for_a_while() {
    let heartbeats = Heartbeats::aged(1, Duration::from_secs(4));
    assert!(heartbeats.ages()[0] >= Duration::from_secs(4));
    assert!(missing(&Readiness::new([], heartbeats)).is_empty());
}
