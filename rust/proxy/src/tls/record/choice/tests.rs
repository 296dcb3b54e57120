use std::cell::Cell;

use super::*;

fn settings(records: RecordLayer, aead: AeadWish) -> RecordSettings {
    RecordSettings {
        records,
        aead,
        key_update_after: Some(7 << 20),
        ..RecordSettings::default()
    }
}

#[test]
fn a_wish_is_followed_and_said() {
    for (records, wish, library, why) in [
        (
            RecordLayer::InPlace,
            AeadWish::AwsLc,
            Library::AwsLc,
            "aes-gcm by aws-lc, as set",
        ),
        (
            RecordLayer::InPlace,
            AeadWish::Ring,
            Library::Ring,
            "aes-gcm by ring, as set",
        ),
        (
            RecordLayer::Rustls,
            AeadWish::Auto,
            Library::AwsLc,
            "by rustls, as set",
        ),
    ] {
        let no_clock = || -> Instant { unreachable!("nothing to measure") };
        let choice = choose_records(&settings(records, wish), no_clock).unwrap();
        let plan = RecordPlan {
            layer: records,
            aead: library,
            key_update_after: Some(7 << 20),
        };
        assert_eq!((choice.plan, &choice.why[..]), (plan, why));
    }
}

#[test]
fn a_choice_says_both_speeds_and_what_the_processor_has() {
    let choice = choose_records(
        &settings(RecordLayer::InPlace, AeadWish::Auto),
        Instant::now,
    )
    .unwrap();
    if features().is_empty() {
        assert_eq!(choice.plan.aead, Library::AwsLc);
        return;
    }
    let (own, other) = match choice.plan.aead {
        Library::AwsLc => ("aws-lc", "ring"),
        Library::Ring => ("ring", "aws-lc"),
    };
    let start = format!("aes-gcm by {own}: ");
    assert!(choice.why.starts_with(&start), "{}", choice.why);
    assert!(choice.why.contains(" GB/s against "), "{}", choice.why);
    assert!(
        choice.why.contains(&format!(" by {other} (")),
        "{}",
        choice.why
    );
    assert!(choice.why.contains(features()[0]), "{}", choice.why);
}

#[test]
fn measuring_ends_when_its_time_is_over() {
    let start = Instant::now();
    let looks = Cell::new(0);
    let slow = || {
        looks.set(looks.get() + 1);
        start + MEASURE * looks.get()
    };
    measure(slow).unwrap();
    // Once before, twice for each library, once behind.
    assert_eq!(looks.get(), 6);
}

#[test]
fn ring_must_be_clearly_faster() {
    for (aws_lc, ring, library) in [
        (5.0, 5.2, Library::AwsLc),
        (5.0, 5.3, Library::Ring),
        (11.0, 7.5, Library::AwsLc),
    ] {
        assert_eq!(prefer(Speed(aws_lc), Speed(ring)), library);
    }
}

#[test]
fn both_libraries_pass_the_self_test() {
    assert_eq!(check(Library::AwsLc), Ok(()));
    assert_eq!(check(Library::Ring), Ok(()));
    assert_eq!(agree(), Ok(()));
}
