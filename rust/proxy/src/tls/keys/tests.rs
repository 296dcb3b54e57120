use mesh::identity::Identity;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;

use super::*;

const WEB: &str = "spiffe://cluster.local/ns/shop/sa/web";

fn request(key: &PrivateKey) -> Vec<u8> {
    let pem = key.csr(&Identity::parse(WEB).unwrap()).unwrap();
    let (_, block) = x509_parser::pem::parse_x509_pem(&pem).unwrap();
    assert_eq!(block.label, "CERTIFICATE REQUEST");
    block.contents
}

#[test]
fn a_request_has_an_empty_subject_and_one_critical_uri() {
    let der = request(&PrivateKey::generate().unwrap());
    let (_, request) = X509CertificationRequest::from_der(&der).unwrap();
    let info = &request.certification_request_info;
    assert_eq!(info.subject.iter().count(), 0);
    assert_eq!(info.iter_attributes().count(), 1);

    let [extension] = info.iter_attributes().collect::<Vec<_>>()[..] else {
        panic!("one attribute")
    };
    let x509_parser::cri_attributes::ParsedCriAttribute::ExtensionRequest(asked) =
        extension.parsed_attribute()
    else {
        panic!("an extension request")
    };
    let [name] = &asked.extensions[..] else {
        panic!("one extension")
    };
    assert!(name.critical);
    let ParsedExtension::SubjectAlternativeName(names) = name.parsed_extension() else {
        panic!("a subject alternative name")
    };
    assert_eq!(names.general_names, [GeneralName::URI(WEB)]);
}

#[test]
fn a_request_is_signed_by_the_key_it_names() {
    let key = PrivateKey::generate().unwrap();
    let der = request(&key);
    let (_, request) = X509CertificationRequest::from_der(&der).unwrap();
    let info = &request.certification_request_info;
    assert_eq!(
        info.subject_pki.raw,
        key.signing_key().public_key().unwrap().as_ref()
    );
    let public = aws_lc_rs::signature::UnparsedPublicKey::new(
        &aws_lc_rs::signature::ECDSA_P256_SHA256_ASN1,
        &info.subject_pki.subject_public_key.data,
    );
    public
        .verify(info.raw, &request.signature_value.data)
        .unwrap();
}

#[test]
fn two_keys_differ() {
    let (a, b) = (
        PrivateKey::generate().unwrap(),
        PrivateKey::generate().unwrap(),
    );
    assert_ne!(a.public, b.public);
}

#[test]
fn a_key_is_not_shown() {
    let key = PrivateKey::generate().unwrap();
    assert_eq!(format!("{key:?}"), "PrivateKey(redacted)");
}
