use super::*;

const ALL: [Flood; 11] = [
    Flood::EmptyFrame,
    Flood::GoAway,
    Flood::Ping,
    Flood::PrematureReset,
    Flood::Priority,
    Flood::ProvokedReset,
    Flood::RefusedStream,
    Flood::Settings,
    Flood::StrayFrame,
    Flood::UnknownFrame,
    Flood::WindowUpdate,
];

#[test]
fn a_budget_is_spent_once_and_refilled_by_a_heartbeat() {
    for flood in ALL {
        let mut budgets = Budgets::new(Limits::default());
        let (_, full) = budgets.pair(flood).unwrap();
        assert!(budgets.spend(flood, full), "{flood}");
        assert!(!budgets.spend(flood, 1), "{flood}");
        budgets.worked(Work::Heartbeat);
        assert!(budgets.spend(flood, full), "{flood}");
    }
}

#[test]
fn work_never_fills_a_budget_past_its_size() {
    for flood in ALL {
        let mut budgets = Budgets::new(Limits::default());
        for work in [
            Work::Answered,
            Work::Completed,
            Work::Received,
            Work::Sent(u32::MAX),
        ] {
            budgets.worked(work);
        }
        let (left, full) = budgets.pair(flood).unwrap();
        assert_eq!(*left, full);
    }
}

#[test]
fn spending_one_budget_leaves_the_others() {
    let mut budgets = Budgets::new(Limits::default());
    assert!(budgets.spend(Flood::Ping, 1000));
    assert!(!budgets.spend(Flood::Ping, 1));
    assert!(budgets.spend(Flood::Settings, 100));
}
