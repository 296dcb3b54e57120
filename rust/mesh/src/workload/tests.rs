use super::*;
use crate::address::Locality;

fn spec(uid: &str, name: &str) -> WorkloadSpec {
    WorkloadSpec {
        uid: uid.into(),
        name: name.into(),
        namespace: "ns".into(),
        trust_domain: TrustDomain::parse("cluster.local").unwrap(),
        service_account: "account".into(),
        network: "".into(),
        addresses: vec![[10, 0, 0, 1].into()],
        protocol: TunnelProtocol::Hbone,
        network_mode: NetworkMode::Standard,
        waypoint: None,
        network_gateway: None,
        application_tunnel: None,
        native_tunnel: false,
        workload_name: "app".into(),
        workload_type: "deployment".into(),
        canonical_name: "app".into(),
        canonical_revision: "v1".into(),
        hostname: "".into(),
        node: "node".into(),
        cluster: "Kubernetes".into(),
        locality: Locality {
            region: "r".into(),
            zone: "z".into(),
            subzone: "".into(),
        },
        status: HealthStatus::Healthy,
        authorization_policies: Vec::new(),
        capacity: 1,
        services: [("ns/app.ns".parse().unwrap(), [(80, 8080)].into())].into(),
    }
}

#[test]
fn a_name_is_the_end_of_the_uid_or_kept_beside_it() {
    let long = format!("{}/name", "x".repeat(70_000));
    for (uid, name) in [
        ("Kubernetes//Pod/ns/name", "name"),
        ("name", "name"),
        ("uid", ""),
        ("uid", "another"),
        ("uid", "a longer name than the uid"),
        (&long, "name"),
    ] {
        let workload = Workload::from(spec(uid, name));
        assert_eq!(workload.name(), name);
        let spelled = serde_json::to_value(&workload).unwrap();
        assert_eq!(
            (&spelled["uid"], &spelled["name"]),
            (&uid.into(), &name.into())
        );
    }
}

#[test]
fn what_pods_have_in_common_is_there_once() {
    let mut interner = Interner::default();
    let [a, b] = ["Kubernetes//Pod/ns/a", "Kubernetes//Pod/ns/b"]
        .map(|uid| interner.workload((&spec(uid, uid.rsplit('/').next().unwrap())).into()));
    assert!(Arc::ptr_eq(&a.profile, &b.profile));
    assert!(Arc::ptr_eq(&a.site, &b.site));
    let other = interner.workload(
        (&WorkloadSpec {
            canonical_revision: "v2".into(),
            ..spec("Kubernetes//Pod/ns/c", "c")
        })
            .into(),
    );
    assert!(!Arc::ptr_eq(&a.profile, &other.profile));
    assert!(Arc::ptr_eq(&a.profile.namespace, &other.profile.namespace));
    let [a, other] = [&a, &other].map(|w| w.services.keys().next().unwrap());
    assert!(Arc::ptr_eq(&a.hostname, &other.hostname));
}

#[test]
fn pods_that_are_their_own_controllers_have_as_much_in_common() {
    let mut interner = Interner::default();
    let mut pod = |name: &str, controller: &str| {
        let uid = format!("Kubernetes//Pod/ns/{name}");
        let spec = WorkloadSpec {
            workload_name: controller.into(),
            ..spec(&uid, name)
        };
        let workload = interner.workload((&spec).into());
        assert_eq!(workload.workload_name(), controller);
        let spelled = serde_json::to_value(&workload).unwrap();
        let shown = spelled
            .get("workloadName")
            .map_or("", |n| n.as_str().unwrap());
        assert_eq!(shown, controller);
        workload
    };
    let [a, b] = ["a", "b"].map(|name| pod(name, name));
    assert!(Arc::ptr_eq(&a.profile, &b.profile));
    for controller in ["a", "app", ""] {
        assert!(!Arc::ptr_eq(&b.profile, &pod("b", controller).profile));
    }
}

#[test]
fn what_no_workload_has_any_more_is_given_back() {
    let mut interner = Interner::default();
    let kept = interner.workload((&spec("kept", "kept")).into());
    for n in 0..100_000 {
        let name: Arc<str> = format!("app-{n}").into();
        interner.workload(
            (&WorkloadSpec {
                canonical_name: Arc::clone(&name),
                node: name,
                ..spec("uid", "uid")
            })
                .into(),
        );
        let sizes = interner.sizes();
        assert!(sizes.iter().all(|size| *size <= 4_096), "{n}: {sizes:?}");
    }
    let again = interner.workload((&spec("kept", "kept")).into());
    assert!(
        Arc::ptr_eq(&kept.profile, &again.profile),
        "what is held stays"
    );
}

#[test]
fn a_workload_is_small() {
    // With two counters in front and the uid's text a hundred thousand of these are most of what a mesh takes.
    assert!(size_of::<Workload>() <= 56, "{}", size_of::<Workload>());
}
