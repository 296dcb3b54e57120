//! A peer that shakes hands as it should, by rustls, and then has the keys in its own hands.

use std::sync::{Arc, LazyLock};
use std::time::Instant;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use mesh::identity::Identity;
use proxy::settings::{AeadWish, RecordLayer, RecordSettings};
use proxy::tls::{CredentialStore, PrivateKey, Session, WorkloadCertificate, choose_records};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, PublicKeyData, SanType,
};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::kernel::KernelConnection;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{ServerConnectionData, UnbufferedServerConnection, WebPkiClientVerifier};
use rustls::unbuffered::{ConnectionState, EncodeError, UnbufferedStatus};
use rustls::{ConnectionTrafficSecrets, DigitallySignedStruct, RootCertStore, SignatureScheme};

const CLIENT: &str = "spiffe://cluster.local/ns/fuzz/sa/client";
const SERVER: &str = "spiffe://cluster.local/ns/fuzz/sa/server";

/// Which end the session is; the peer is the other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Side {
    Client,
    Server,
}

/// Whose records the session has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Path(usize);

impl Path {
    /// Ours with AWS-LC, ours with ring, and rustls'.
    pub const EACH: [Self; 3] = [Self(0), Self(1), Self::RUSTLS];
    pub const RUSTLS: Self = Self(2);

    fn settings(self) -> RecordSettings {
        let (records, aead) = match self.0 {
            0 => (RecordLayer::InPlace, AeadWish::AwsLc),
            1 => (RecordLayer::InPlace, AeadWish::Ring),
            _ => (RecordLayer::Rustls, AeadWish::AwsLc),
        };
        RecordSettings {
            records,
            aead,
            ..RecordSettings::default()
        }
    }
}

/// Certificates and configurations, made once.
struct Props {
    stores: [CredentialStore; 3],
    client: Arc<rustls::ClientConfig>,
    server: Arc<rustls::ServerConfig>,
}

static PROPS: LazyLock<Props> = LazyLock::new(Props::new);

impl Props {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let stores = Path::EACH.map(|path| {
            let plan = choose_records(&path.settings(), Instant::now).unwrap().plan;
            let store = CredentialStore::new(plan);
            for name in [CLIENT, SERVER] {
                let key = PrivateKey::generate().unwrap();
                let chain = leaf(name, &key, &root).pem();
                let root = root.pem();
                let identity = Identity::parse(name).unwrap();
                store.install(
                    WorkloadCertificate::new(identity, &key, chain.as_bytes(), root.as_bytes())
                        .unwrap(),
                );
            }
            store
        });
        let shown = |name| {
            let key = KeyPair::generate().unwrap();
            let chain = vec![leaf(name, &key, &root).der().clone()];
            (chain, PrivateKeyDer::try_from(key.serialize_der()).unwrap())
        };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let (chain, key) = shown(CLIENT);
        let mut client = rustls::ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody))
            .with_client_auth_cert(chain, key)
            .unwrap();
        client.enable_secret_extraction = true;
        let mut roots = RootCertStore::empty();
        roots.add(root.der().clone()).unwrap();
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone());
        let (chain, key) = shown(SERVER);
        let mut server = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(chain, key)
            .unwrap();
        server.enable_secret_extraction = true;
        server.send_tls13_tickets = 0;
        Self {
            stores,
            client: Arc::new(client),
            server: Arc::new(server),
        }
    }
}

fn leaf(
    name: &str,
    key: &impl PublicKeyData,
    root: &CertifiedIssuer<'_, KeyPair>,
) -> rcgen::Certificate {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    params
        .subject_alt_names
        .push(SanType::URI(name.try_into().unwrap()));
    params.signed_by(key, root).unwrap()
}

pub struct Peer {
    kernel: Kernel,
    key: LessSafeKey,
    iv: [u8; 12],
    next: u64,
}

enum Kernel {
    Client(KernelConnection<ClientConnectionData>),
    Server(KernelConnection<ServerConnectionData>),
}

impl Peer {
    /// Two ends that have shaken hands.
    pub fn meet(side: Side, path: Path) -> (Session, Self) {
        let props = &*PROPS;
        let own = |name| {
            let identity = Identity::parse(name).unwrap();
            props.stores[path.0].get(&identity).unwrap()
        };
        let (session, secrets, kernel) = match side {
            Side::Server => {
                let session = Session::server(own(SERVER).server()).unwrap();
                let nobody = ServerName::try_from("0.0.0.0").unwrap();
                let peer = UnbufferedClientConnection::new(props.client.clone(), nobody).unwrap();
                let (session, peer) = shake_hands(session, peer);
                let (secrets, kernel) = peer.dangerous_into_kernel_connection().unwrap();
                (session, secrets, Kernel::Client(kernel))
            }
            Side::Client => {
                let expected = [Identity::parse(SERVER).unwrap()];
                let session = Session::client(own(CLIENT).client(&expected)).unwrap();
                let peer = UnbufferedServerConnection::new(props.server.clone()).unwrap();
                let (session, peer) = shake_hands(session, peer);
                let (secrets, kernel) = peer.dangerous_into_kernel_connection().unwrap();
                (session, secrets, Kernel::Server(kernel))
            }
        };
        let (next, secrets) = secrets.tx;
        let (key, iv) = take(secrets);
        let peer = Self {
            kernel,
            key,
            iv,
            next,
        };
        (session, peer)
    }

    /// A record with this content.
    pub fn seal(&mut self, kind: u8, content: &[u8], padding: usize) -> Vec<u8> {
        let mut inner = content.to_vec();
        inner.push(kind);
        inner.resize(inner.len() + padding, 0);
        self.seal_inner(&inner)
    }

    /// A record with content, type and padding as they come.
    pub fn seal_inner(&mut self, inner: &[u8]) -> Vec<u8> {
        let [high, low] = u16::try_from(inner.len() + 16).unwrap().to_be_bytes();
        let header = [23, 3, 3, high, low];
        let mut nonce = self.iv;
        for (byte, number) in nonce[4..].iter_mut().zip(self.next.to_be_bytes()) {
            *byte ^= number;
        }
        self.next += 1;
        let mut sealed = inner.to_vec();
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.key
            .seal_in_place_append_tag(nonce, Aad::from(header), &mut sealed)
            .unwrap();
        [&header[..], &sealed].concat()
    }

    /// The next key is in use from now on, whether that was said or not.
    pub fn update_key(&mut self) {
        let (next, secrets) = match &mut self.kernel {
            Kernel::Client(kernel) => kernel.update_tx_secret(),
            Kernel::Server(kernel) => kernel.update_tx_secret(),
        }
        .unwrap();
        (self.key, self.iv) = take(secrets);
        self.next = next;
    }
}

fn take(secrets: ConnectionTrafficSecrets) -> (LessSafeKey, [u8; 12]) {
    let ConnectionTrafficSecrets::Aes256Gcm { key, iv } = secrets else {
        unreachable!("the first of our suites, which the peer has too")
    };
    let key = UnboundKey::new(&AES_256_GCM, key.as_ref()).unwrap();
    (LessSafeKey::new(key), iv.as_ref().try_into().unwrap())
}

/// One turn of an unbuffered connection: what it is done with, and whether it wants another.
trait Turn {
    fn turn(&mut self, incoming: &mut [u8], outgoing: &mut Vec<u8>) -> (usize, bool);
    fn is_shaking(&self) -> bool;
}

impl Turn for UnbufferedClientConnection {
    fn turn(&mut self, incoming: &mut [u8], outgoing: &mut Vec<u8>) -> (usize, bool) {
        settle(self.process_tls_records(incoming), outgoing)
    }

    fn is_shaking(&self) -> bool {
        self.is_handshaking()
    }
}

impl Turn for UnbufferedServerConnection {
    fn turn(&mut self, incoming: &mut [u8], outgoing: &mut Vec<u8>) -> (usize, bool) {
        settle(self.process_tls_records(incoming), outgoing)
    }

    fn is_shaking(&self) -> bool {
        self.is_handshaking()
    }
}

fn settle<Data>(status: UnbufferedStatus<'_, '_, Data>, outgoing: &mut Vec<u8>) -> (usize, bool) {
    let more = match status.state.unwrap() {
        ConnectionState::EncodeTlsData(mut message) => {
            let Err(EncodeError::InsufficientSize(size)) = message.encode(&mut []) else {
                unreachable!("no message is empty")
            };
            let start = outgoing.len();
            outgoing.resize(start + size.required_size, 0);
            message.encode(&mut outgoing[start..]).unwrap();
            true
        }
        ConnectionState::TransmitTlsData(sent) => {
            sent.done();
            true
        }
        _ => false,
    };
    (status.discard, more)
}

fn shake_hands<P: Turn>(mut session: Session, mut peer: P) -> (Session, P) {
    let (mut to_peer, mut to_session) = (Vec::new(), Vec::new());
    while peer.is_shaking() || session.is_handshaking() {
        let consumed = session
            .receive(&mut to_session, &mut to_peer, &mut |_| {})
            .unwrap();
        to_session.drain(..consumed);
        loop {
            let (done, more) = peer.turn(&mut to_peer, &mut to_session);
            to_peer.drain(..done);
            if !more {
                break;
            }
        }
    }
    (session, peer)
}

/// A name that is an identity is none that rustls could look for.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        unreachable!("TLS 1.3 only")
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}
