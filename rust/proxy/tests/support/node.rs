//! A data plane that has its certificate, and who signs for it.
//!
//! The one road to a running node for the tests here and for the examples that drive real traffic.

use mesh::decode::Resource;
use mesh::identity::Identity;
use proxy::DataPlane;
use proxy::settings::Settings;
use proxy::tls::{PrivateKey, WorkloadCertificate};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    SanType,
};
use serde_json::{Value, json};

/// A node whose certificate is there; `more` are further settings.
pub(crate) fn node(
    authority: &CertifiedIssuer<'static, KeyPair>,
    name: &str,
    listeners: &Value,
    hbone_port: u16,
    more: &Value,
) -> DataPlane {
    let mut settings = json!({
        "workers": 2, "hbonePort": hbone_port, "listeners": listeners, "logLevel": "error",
        "workload": {"name": name, "namespace": "default", "serviceAccount": name},
        "accessLog": {"format": "off"}, "originalSource": false,
    });
    let more = more.as_object().unwrap().clone();
    settings.as_object_mut().unwrap().extend(more);
    let node = DataPlane::new(Settings::parse(settings.to_string().as_bytes()).unwrap()).unwrap();
    node.install(certificate(authority, name));
    node
}

pub(crate) fn resource<'a>(type_url: &'a str, name: &'a str, value: &'a str) -> Resource<'a> {
    Resource {
        type_url,
        name,
        value: value.as_bytes(),
    }
}

pub(crate) fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn certificate(
    authority: &CertifiedIssuer<'static, KeyPair>,
    account: &str,
) -> WorkloadCertificate {
    let identity = Identity::new("cluster.local", "default", account).unwrap();
    let name = identity.to_string();
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::URI(name.as_str().try_into().unwrap())];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    let key = PrivateKey::generate().unwrap();
    let chain = params.signed_by(&key, authority).unwrap().pem();
    WorkloadCertificate::new(identity, &key, chain.as_bytes(), authority.pem().as_bytes()).unwrap()
}
