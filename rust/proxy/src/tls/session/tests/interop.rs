//! The same protocol from rustls' buffered side: an independent driver of the record layer.

use super::*;

/// A buffered connection as an end of the wire.
trait Buffered {
    fn feed(&mut self, bytes: &[u8], heard: &mut Vec<u8>) -> Result<(), rustls::Error>;
    fn drain(&mut self) -> Vec<u8>;
}

macro_rules! buffered {
    ($connection:ty) => {
        impl Buffered for $connection {
            fn feed(&mut self, mut bytes: &[u8], heard: &mut Vec<u8>) -> Result<(), rustls::Error> {
                while !bytes.is_empty() {
                    self.read_tls(&mut bytes).unwrap();
                    let state = self.process_new_packets()?;
                    let mut text = vec![0; state.plaintext_bytes_to_read()];
                    self.reader().read_exact(&mut text).unwrap();
                    heard.extend_from_slice(&text);
                }
                Ok(())
            }

            fn drain(&mut self) -> Vec<u8> {
                let mut bytes = Vec::new();
                while self.wants_write() {
                    self.write_tls(&mut bytes).unwrap();
                }
                bytes
            }
        }
    };
}

buffered!(ClientConnection);
buffered!(ServerConnection);

/// Carries until both are silent; returns what the buffered side heard.
fn talk(end: &mut End, other: &mut impl Buffered, cut: usize) -> Vec<u8> {
    let mut heard = Vec::new();
    loop {
        let to_other = std::mem::take(&mut end.outbox);
        other.feed(&to_other, &mut heard).unwrap();
        let to_end = other.drain();
        for piece in to_end.chunks(cut) {
            end.take(piece);
        }
        if to_other.is_empty() && to_end.is_empty() {
            return heard;
        }
    }
}

fn certificates() -> (WorkloadCertificate, WorkloadCertificate) {
    let root = Authority::root("root");
    (root.certificate(CLIENT), root.certificate(SERVER))
}

fn nobody() -> ServerName<'static> {
    ServerName::try_from("0.0.0.0").unwrap()
}

#[test]
fn a_buffered_server_is_understood() {
    on_each_path(|| {
        let (client, server) = certificates();
        for cut in [1, 100, usize::MAX] {
            let mut end = End::client(client.client(&[identity(SERVER)]));
            let mut other = ServerConnection::new(Arc::clone(&server.server().tls)).unwrap();
            talk(&mut end, &mut other, cut);
            assert_eq!(end.session.peer(), Some(&identity(SERVER)));
            end.say(&pattern(100_000));
            assert!(talk(&mut end, &mut other, cut) == pattern(100_000));
            other.writer().write_all(&pattern(50_000)).unwrap();
            other.send_close_notify();
            talk(&mut end, &mut other, cut);
            assert!(end.heard == pattern(50_000) && end.session.peer_closed());
        }
    });
}

#[test]
fn a_buffered_client_is_understood() {
    on_each_path(|| {
        let (client, server) = certificates();
        for cut in [1, 100, usize::MAX] {
            let mut end = End::server(server.server());
            let config = client.client(&[identity(SERVER)]);
            let mut other = ClientConnection::new(Arc::clone(&config.tls), nobody()).unwrap();
            talk(&mut end, &mut other, cut);
            assert_eq!(end.session.peer(), Some(&identity(CLIENT)));
            other.writer().write_all(&pattern(50_000)).unwrap();
            talk(&mut end, &mut other, cut);
            assert!(end.heard == pattern(50_000));
            end.say(&pattern(100_000));
            end.session.close(&mut end.outbox);
            assert!(talk(&mut end, &mut other, cut) == pattern(100_000));
        }
    });
}

#[test]
fn a_key_update_is_followed_and_answered() {
    on_each_path(|| {
        let (client, server) = certificates();
        let mut end = End::server(server.server());
        let config = client.client(&[identity(SERVER)]);
        let mut other = ClientConnection::new(Arc::clone(&config.tls), nobody()).unwrap();
        talk(&mut end, &mut other, usize::MAX);
        for round in 0..5 {
            other.refresh_traffic_keys().unwrap();
            other.writer().write_all(&[round]).unwrap();
            talk(&mut end, &mut other, 7);
            let before = end.outbox.len();
            end.say(b"answer");
            // The update of our own keys goes in front: one record more.
            assert_eq!(
                end.outbox.len() - before,
                encrypted_len(6) + 5 + RECORD_OVERHEAD
            );
            assert_eq!(talk(&mut end, &mut other, 7), b"answer");
        }
        assert_eq!(end.heard, [0, 1, 2, 3, 4]);
    });
}

#[test]
fn a_flood_of_key_updates_ends_the_connection() {
    on_each_path(|| {
        let (client, server) = certificates();
        let mut end = End::server(server.server());
        let config = client.client(&[identity(SERVER)]);
        let mut other = ClientConnection::new(Arc::clone(&config.tls), nobody()).unwrap();
        talk(&mut end, &mut other, usize::MAX);
        for _ in 0..100 {
            other.refresh_traffic_keys().unwrap();
        }
        end.take(&other.drain());
        assert_eq!(end.reason(), "protocol");
    });
}

#[test]
fn tickets_are_ignored_even_in_pieces() {
    on_each_path(|| {
        let root = Authority::root("root");
        let key = PrivateKey::generate().unwrap();
        let mut config = lax_server(root.sign(&Leaf::named(SERVER), &key), &key);
        config.send_tls13_tickets = 4;
        config.session_storage = rustls::server::ServerSessionMemoryCache::new(8);
        config.max_fragment_size = Some(64);
        let config = Arc::new(config);
        let client = root.certificate(CLIENT);

        let mut end = End::client(client.client(&[identity(SERVER)]));
        let mut other = ServerConnection::new(config).unwrap();
        let mut heard = Vec::new();
        other
            .feed(&std::mem::take(&mut end.outbox), &mut heard)
            .unwrap();
        end.take(&other.drain());
        other
            .feed(&std::mem::take(&mut end.outbox), &mut heard)
            .unwrap();

        // Speak up at every byte of them: a ticket is then often there in part.
        let tickets = other.drain();
        assert!(tickets.len() > 4 * 64);
        for byte in tickets {
            end.take(&[byte]);
            end.say(b".");
        }
        end.session.close(&mut end.outbox);
        let said = end.outbox.len();
        other
            .feed(&std::mem::take(&mut end.outbox), &mut heard)
            .unwrap();
        assert_eq!(end.reason(), "none");
        assert_eq!(heard.len(), (said - ALERT_RECORD) / encrypted_len(1));
        other.writer().write_all(b"and on").unwrap();
        end.take(&other.drain());
        assert_eq!(end.heard, b"and on");
    });
}

#[test]
fn a_client_that_offers_no_protocol_is_served_one_that_offers_others_is_not() {
    on_each_path(|| {
        let root = Authority::root("root");
        let key = PrivateKey::generate().unwrap();
        let chain = root.sign(&Leaf::named(CLIENT), &key);
        let server = root.certificate(SERVER);
        let offers: [(&[&str], _, _); 3] = [
            (&[], "none", "none"),
            (&["http/1.1", "h2"], "none", "none"),
            (
                &["http/1.1"],
                "no_application_protocol",
                "peer_alert:no_application_protocol",
            ),
        ];
        for (offer, ours, theirs) in offers {
            let mut config = lax_client(chain.clone(), &key);
            config.alpn_protocols = offer.iter().map(|name| name.as_bytes().to_vec()).collect();
            let (mut client, mut server) = (End::client(config), End::server(server.server()));
            carry_whole(&mut client, &mut server);
            assert_eq!(
                (server.reason(), client.reason()),
                (ours, theirs),
                "{offer:?}"
            );
        }
    });
}

#[test]
fn every_group_and_suite_of_the_specification_is_spoken_and_no_other() {
    on_each_path(|| {
        use rustls::crypto::aws_lc_rs::{cipher_suite, kx_group};
        let root = Authority::root("root");
        let key = PrivateKey::generate().unwrap();
        let chain = root.sign(&Leaf::named(CLIENT), &key);
        let server = root.certificate(SERVER);
        let dial = |suite, group| {
            let provider = rustls::crypto::CryptoProvider {
                cipher_suites: vec![suite],
                kx_groups: vec![group],
                ..rustls::crypto::aws_lc_rs::default_provider()
            };
            let lax = lax_client(chain.clone(), &key);
            let mut config = rustls::ClientConfig::builder_with_provider(provider.into())
                .with_protocol_versions(&[&rustls::version::TLS13])
                .unwrap()
                .with_root_certificates(rustls::RootCertStore::empty())
                .with_client_cert_resolver(Arc::clone(&lax.client_auth_cert_resolver));
            config.alpn_protocols = lax.alpn_protocols;
            let mut server = End::server(server.server());
            let mut client = End::client(config);
            server.take(&std::mem::take(&mut client.outbox));
            server.reason()
        };
        for group in [
            kx_group::X25519,
            kx_group::SECP256R1,
            kx_group::SECP384R1,
            kx_group::X25519MLKEM768,
        ] {
            for suite in [
                cipher_suite::TLS13_AES_256_GCM_SHA384,
                cipher_suite::TLS13_AES_128_GCM_SHA256,
            ] {
                assert_eq!(dial(suite, group), "none");
            }
        }
        assert_eq!(
            dial(
                cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
                kx_group::X25519
            ),
            "incompatible"
        );
    });
}
