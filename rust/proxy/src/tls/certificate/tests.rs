use rcgen::{CertificateParams, SanType, SerialNumber, date_time_ymd};

use super::*;
use crate::tls::PrivateKey;
use crate::tls::testing::{Authority, Leaf};

#[test]
fn a_certificate_is_shown_as_config_dump_spells_it() {
    let mut params = CertificateParams::default();
    params.serial_number = Some(SerialNumber::from_slice(&[1, 0, 0, 0, 0, 0, 0, 0, 0]));
    params.not_before = date_time_ymd(2024, 2, 29);
    params.not_after = date_time_ymd(2051, 12, 31);
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();

    let info = Reading::of(certificate.der()).unwrap().info;
    assert_eq!(info.serial_number, "18446744073709551616");
    assert_eq!(info.valid_from, "2024-02-29T00:00:00Z");
    assert_eq!(info.expiration_time, "2051-12-31T00:00:00Z");
    assert_eq!(
        info.pem.replace('\r', ""),
        certificate.pem().replace('\r', "")
    );

    let json = serde_json::to_value(&info).unwrap();
    let keys: Vec<_> = json.as_object().unwrap().keys().cloned().collect();
    assert_eq!(keys, ["expirationTime", "pem", "serialNumber", "validFrom"]);
    assert_eq!(json["pem"], base64(info.pem.as_bytes()));
}

#[test]
fn base64_is_rfc_4648s() {
    for (plain, coded) in [
        ("", ""),
        ("f", "Zg=="),
        ("fo", "Zm8="),
        ("foo", "Zm9v"),
        ("foob", "Zm9vYg=="),
        ("fooba", "Zm9vYmE="),
        ("foobar", "Zm9vYmFy"),
    ] {
        assert_eq!(base64(plain.as_bytes()), coded);
    }
    assert_eq!(base64(&[0xfb, 0xff, 0xfe]), "+//+");
}

#[test]
fn only_uris_count_as_names() {
    let root = Authority::root("root");
    let leaf = Leaf::named("spiffe://a/ns/b/sa/c")
        .and(SanType::DnsName("example.com".try_into().unwrap()))
        .and(SanType::IpAddress([127, 0, 0, 1].into()))
        .and(SanType::URI("https://example.com/".try_into().unwrap()));
    let chain = root.sign(&leaf, &PrivateKey::generate().unwrap());
    let names = uri_names(&chain[0]).unwrap();
    assert_eq!(names, ["spiffe://a/ns/b/sa/c", "https://example.com/"]);
}

#[test]
fn a_uri_that_is_not_ascii_still_counts() {
    let mut params = CertificateParams::default();
    let mut names = vec![
        0x30, 10, 0x86, 3, b'a', b':', b'b', 0x86, 3, b'c', b':', 0xff,
    ];
    let oid = [2, 5, 29, 17];
    let extension = rcgen::CustomExtension::from_oid_content(&oid, std::mem::take(&mut names));
    params.custom_extensions.push(extension);
    let key = rcgen::KeyPair::generate().unwrap();
    let der = params.self_signed(&key).unwrap().der().clone();
    assert_eq!(uri_names(&der).map(|names| names.len()), Ok(2));
}

#[test]
fn bytes_that_are_no_certificate_are_unreadable() {
    let root = Authority::root("root");
    let chain = root.sign(
        &Leaf::named("spiffe://a/ns/b/sa/c"),
        &PrivateKey::generate().unwrap(),
    );
    let mut trailing = chain[0].to_vec();
    trailing.push(0);
    for bytes in [
        &[][..],
        &[0x30],
        b"not a certificate",
        &chain[0][..100],
        &trailing,
    ] {
        assert_eq!(uri_names(&bytes.into()).err(), Some(Unreadable));
    }
}

#[test]
fn a_time_outside_the_calendar_is_given_as_a_number() {
    assert_eq!(rfc3339_of(0), "1970-01-01T00:00:00Z");
    assert_eq!(rfc3339_of(i64::MAX), i64::MAX.to_string());
}
