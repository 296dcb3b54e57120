use proptest::prelude::*;

use super::*;

const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

#[test]
fn the_standards_example_is_read() {
    let expected = TraceParent {
        trace: 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c,
        parent: 0xb7ad_6b71_6920_3331,
    };
    assert_eq!(TraceParent::parse(GOOD.as_bytes()), Some(expected));
    assert_eq!(expected.encode(), GOOD.replace("-01", "-00"));
}

#[test]
fn a_later_version_of_the_same_length_is_read() {
    let header = GOOD.replacen("00", "fe", 1);
    assert!(TraceParent::parse(header.as_bytes()).is_some());
}

#[test]
fn anything_else_begins_a_new_trace() {
    let zeros = "0".repeat(55);
    let dashes = "-".repeat(55);
    for header in [
        "",
        &zeros,
        &dashes,
        &GOOD[..54],
        &format!("{GOOD}0"),
        &format!(" {}", &GOOD[..54]),
        &GOOD.to_uppercase(),
        &GOOD.replacen("00", "ff", 1),
        &GOOD.replacen("00", "+0", 1),
        &GOOD.replacen("00", "0x", 1),
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        "00-0af7651916cd43dd8448eb211c80319-cb7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331001",
        "00-0af7651916cd43dd8448eb211c80319cab7ad6b7169203331-01",
        "0-00af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0-",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333é-1",
        "00 0af7651916cd43dd8448eb211c80319c b7ad6b7169203331 01",
    ] {
        assert_eq!(TraceParent::parse(header.as_bytes()), None, "{header:?}");
    }
    assert_eq!(TraceParent::parse(&[0xff; 55]), None);
}

proptest! {
    #[test]
    fn what_was_written_is_read(trace in 1u128.., parent in 1u64..) {
        let traceparent = TraceParent { trace, parent };
        prop_assert_eq!(TraceParent::parse(traceparent.encode().as_bytes()), Some(traceparent));
    }

    #[test]
    fn any_55_bytes_are_read_or_not(header in prop::collection::vec("[0-9a-f-]", 55)) {
        let _ = TraceParent::parse(header.concat().as_bytes());
    }
}
