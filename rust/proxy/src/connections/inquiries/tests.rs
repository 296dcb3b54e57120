use std::rc::Rc;

use serde_json::{Value, json};

use super::super::ConnectionTable;
use super::super::testing::guarded;
use super::*;

/// A worker with these clients, in a thread of its own, until its ear is closed.
fn worker(id: usize, mut ear: mpsc::Receiver<Inquiry>, sources: &'static [&'static str]) {
    std::thread::spawn(move || {
        let table = Rc::<ConnectionTable>::default();
        let held: Vec<_> = sources.iter().map(|_| table.register()).collect();
        for (registration, source) in held.iter().zip(sources) {
            registration.guard(guarded(source, None, None));
        }
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.build().unwrap().block_on(async {
            while let Some(inquiry) = ear.recv().await {
                let census = table.census(inquiry.most).await;
                let _ = inquiry.answer.try_send((id, census));
            }
        });
    });
}

fn asked(inquiries: &Inquiries, most: usize, patience: Duration) -> Value {
    serde_json::to_value(inquiries.ask(most, patience)).unwrap()
}

#[test]
fn the_answers_of_all_workers_become_one() {
    let inquiries = Inquiries::default();
    worker(0, inquiries.of_worker(), &["10.1.0.1:1", "10.1.0.1:2"]);
    worker(1, inquiries.of_worker(), &["10.1.0.1:3"]);
    worker(2, inquiries.of_worker(), &[]);
    let answer = asked(&inquiries, 100, Duration::from_secs(60));
    let inbound = answer["workloads"]["web"]["inbound"].as_array().unwrap();
    let sources: Vec<_> = inbound.iter().map(|shown| &shown["src"]).collect();
    assert_eq!(sources, ["10.1.0.1:1", "10.1.0.1:2", "10.1.0.1:3"]);
    assert_eq!(
        (&answer["silentWorkers"], &answer["leftOff"]),
        (&json!([]), &json!(0))
    );
    // The limit is for all of them together.
    let answer = asked(&inquiries, 2, Duration::from_secs(60));
    let inbound = answer["workloads"]["web"]["inbound"].as_array().unwrap();
    assert_eq!((inbound.len(), &answer["leftOff"]), (2, &json!(1)));
}

#[test]
fn a_worker_that_does_not_answer_is_named_and_holds_nobody_up() {
    let inquiries = Inquiries::default();
    worker(0, inquiries.of_worker(), &["10.1.0.1:1"]);
    let stuck = inquiries.of_worker();
    drop(inquiries.of_worker()); // has ended
    for _ in 0..2 * UNANSWERED {
        let began = Instant::now();
        let answer = asked(&inquiries, 100, Duration::from_millis(50));
        // Not that of a question to a worker that answers.
        assert!(began.elapsed() < Duration::from_secs(30));
        let silent = answer["silentWorkers"].as_array().unwrap();
        assert!(silent.contains(&json!(1)) && silent.contains(&json!(2)));
    }
    assert_eq!(stuck.len(), UNANSWERED, "questions are not piled up");
}

#[test]
fn before_there_are_workers_there_are_no_connections() {
    let expected = json!({"workloads": {}, "leftOff": 0, "silentWorkers": []});
    let answer: Value = serde_json::from_slice(&Inquiries::default().connections()).unwrap();
    assert_eq!(answer, expected);
}
