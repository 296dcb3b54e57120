use super::*;

#[test]
fn behind_a_gateway_the_same_is_asked_for_and_the_network_told() {
    for network in ["", "east"] {
        let fields = Fields::default()
            .with("baggage", "k8s.namespace.name=default")
            .with("forwarded", "for=\"192.0.2.1:1234\"")
            .with(
                "traceparent",
                "00-0123456789abcdef0123456789abcdef-0123456789abcdef-00",
            );
        let outer = RequestHead::connect("echo.default.svc:80".to_owned(), fields.clone());
        let inner = sent_on(&outer, network);
        let told = fields.with(X_FORWARDED_NETWORK, network);
        assert_eq!(
            inner,
            RequestHead::connect("echo.default.svc:80".to_owned(), told)
        );
    }
}
