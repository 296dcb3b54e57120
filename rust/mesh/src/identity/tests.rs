use super::Identity;

#[test]
fn a_spiffe_id_reads_back_as_written() {
    let text = "spiffe://cluster.local/ns/my.ns/sa/my-account";
    let identity = Identity::parse(text).unwrap();
    assert_eq!(identity.to_string(), text);
    assert_eq!(identity.principal(), "cluster.local/ns/my.ns/sa/my-account");
}

#[test]
fn other_spellings_are_refused() {
    for text in [
        "",
        "spiffe://",
        "SPIFFE://td/ns/a/sa/b",
        "spiffe://td/ns/a/sa/b/",
        "spiffe://td/ns/a/sa/b/c",
        "spiffe://td/ns/a/sa",
        "spiffe://td/sa/a/ns/b",
        "spiffe:///ns/a/sa/b",
        "spiffe://td/ns//sa/b",
        "spiffe://td/ns/a/sa/",
        "spiffe://TD/ns/a/sa/b",
        "spiffe://td/ns/../sa/b",
        "spiffe://td/ns/a%2fb/sa/c",
        "spiffe://td/ns/a/sa/b?x",
        "spiffe://td/ns/a/sa/b#x",
        "spiffe://td:1/ns/a/sa/b",
        "spiffe://td/ns/ä/sa/b",
    ] {
        assert!(Identity::parse(text).is_err(), "{text:?} was accepted");
    }
    assert!(Identity::parse(&format!("spiffe://td/ns/{}/sa/b", "a".repeat(3000))).is_err());
}
