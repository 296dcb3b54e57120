use super::*;
use crate::hpack::Decoder;

fn read(block: &[u8]) -> HeadReader {
    let mut reader = HeadReader::new(100);
    let size = Decoder::default().decode(block, 65_536, &mut |name, value| {
        reader.field(name, value);
    });
    assert!(size.is_ok());
    reader
}

#[test]
fn heads_survive_the_wire_in_order() {
    let fields = Fields::new()
        .with("baggage", "")
        .with("a", "1")
        .with("b", "2")
        .with("a", "3");
    let request = RequestHead::connect("[::1]:80", fields.clone());
    let mut block = Vec::new();
    request.encode(&mut Encoder::new(), &mut block);
    assert_eq!(read(&block).request(), Ok(request));

    let response = ResponseHead {
        status: 503,
        fields,
    };
    let mut block = Vec::new();
    response.encode(&mut Encoder::new(), &mut block);
    assert_eq!(read(&block).response(), Ok(response));
}

#[test]
fn a_field_is_found_by_name_in_order() {
    let fields = Fields::new().with("a", "1").with("b", "2").with("a", "3");
    assert_eq!(fields.get("a"), Some(&b"1"[..]));
    assert_eq!(fields.all("a").collect::<Vec<_>>(), [b"1", b"3"]);
    assert_eq!(fields.get("A"), None);
    assert_eq!((fields.len(), fields.is_empty()), (3, false));
}

#[test]
fn what_is_new_with_every_connection_stays_out_of_the_table() {
    let mut encoder = Encoder::new();
    let fields = |port: u16| {
        Fields::new()
            .with("baggage", "k8s.namespace.name=default")
            .with("forwarded", format!("for=\"10.0.0.1:{port}\""))
    };
    let (mut first, mut second) = (Vec::new(), Vec::new());
    RequestHead::connect("10.0.0.7:80", fields(1)).encode(&mut encoder, &mut first);
    RequestHead::connect("10.0.0.7:80", fields(2)).encode(&mut encoder, &mut second);
    // :method, :authority and baggage are a byte each; only forwarded is spelled again.
    assert!(second[..3].iter().all(|byte| *byte >= 0x80), "{second:x?}");
    assert!(second.len() < first.len() / 2);
}

#[test]
fn reading_stops_at_the_field_limit() {
    let mut reader = HeadReader::new(2);
    for name in [&b"a"[..], b"b", b"c"] {
        assert!(!reader.is_too_large());
        reader.field(name, b"");
    }
    assert!(reader.is_too_large());
    assert_eq!(reader.fields.len(), 2);
}
