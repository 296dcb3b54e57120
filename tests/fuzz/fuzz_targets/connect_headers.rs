//! A header that was read and written again reads the same; what is read is what its type promises.
//!
//! Every input goes to every parser: as it is, and for `baggage` also as one header per line.

#![no_main]

use hbone::headers::{Authority, Baggage, Forwarded, TraceParent};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    authority(input);
    baggage([input]);
    baggage(input.split(|&byte| byte == b'\n'));
    own_baggage(input);
    forwarded(input);
    traceparent(input);
});

fn authority(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let Ok(authority) = Authority::parse(text) else {
        return;
    };
    assert_ne!(authority.port(), 0);
    assert!(
        !text.contains(['@', '%', ' ']),
        "a user, a zone or a space got through"
    );
    assert_eq!(
        Authority::parse(&authority.to_string()).as_ref(),
        Ok(&authority)
    );
    if let Authority::Host { host, .. } = &authority {
        assert!(!host.is_empty() && host.len() <= 253 && host.is_ascii());
        assert_eq!(authority.to_string(), text, "a name has one spelling");
    }
}

fn baggage<'a>(headers: impl IntoIterator<Item = &'a [u8]>) {
    let Ok(baggage) = Baggage::parse(headers) else {
        return;
    };
    let written = baggage.encode();
    let read = Baggage::parse([written.as_bytes()]).expect("our own header is right");
    // Not every value that can be read can be written: what is left out once stays out.
    assert_eq!(read.encode(), written);
    for value in [
        &baggage.cluster,
        &baggage.namespace,
        &baggage.workload,
        &baggage.zone,
    ] {
        assert_ne!(value.as_deref(), Some(""));
    }
}

/// Any text as the name of something of ours: on the wire it is itself or nothing, and never two members.
fn own_baggage(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let ours = Baggage {
        namespace: Some(text.to_owned()),
        region: Some("eu".to_owned()),
        ..Baggage::default()
    };
    // Longer than a header may be, which is ours to avoid and not the peer's to take.
    let Ok(read) = Baggage::parse([ours.encode().as_bytes()]) else {
        return assert!(text.len() > 8000);
    };
    let left_out = Baggage {
        namespace: None,
        ..ours.clone()
    };
    assert!(read == ours || read == left_out, "{read:?}");
}

fn forwarded(input: &[u8]) {
    if let Some(host) = Forwarded::host(input) {
        let client = ([10, 0, 0, 1], 80).into();
        let header = Forwarded::encode(client, Some(&host));
        assert_eq!(Forwarded::host(header.as_bytes()), Some(host));
    }
}

fn traceparent(input: &[u8]) {
    if let Some(read) = TraceParent::parse(input) {
        let written = read.encode();
        assert_eq!(written.as_bytes()[2..53], input[2..53]);
        assert_eq!(TraceParent::parse(written.as_bytes()), Some(read));
    }
}
