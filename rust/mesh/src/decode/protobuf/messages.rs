//! The messages of `proto/workload.proto` and `proto/authorization.proto`, as far as we read them; `tests.rs` beside this
//! file keeps them in step. Nothing above `decode` knows them.
//!
//! Written by hand instead of generated, for two freedoms that the encoding gives (a text, a message and bytes are the
//! same on the wire):
//! * a text is `Bytes`, a piece of the resource: it costs no allocation, and one that is not UTF-8 is a mistake of that
//!   field, with its path, not of the whole message;
//! * the parts of a policy's rules are `Bytes` too, and read one by one: a part that cannot be read hides neither the
//!   policy's scope and action nor its other rules, and two bytes on the wire do not become the 300 of a [`Match`] before
//!   they are counted.
//!
//! An enumeration is its number; `objects.rs` and `authorization.rs` know what the numbers mean.

use prost::bytes::Bytes;
use prost::{Message, Oneof};

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Address {
    #[prost(oneof = "Type", tags = "1, 2")]
    pub(crate) kind: Option<Type>,
}

#[derive(Clone, PartialEq, Oneof)]
#[expect(
    clippy::large_enum_variant,
    reason = "there is one at a time, on the stack; a box would be an allocation for each resource"
)]
pub(crate) enum Type {
    #[prost(message, tag = "1")]
    Workload(Workload),
    #[prost(message, tag = "2")]
    Service(Service),
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Service {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) name: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) namespace: Bytes,
    #[prost(bytes = "bytes", tag = "3")]
    pub(crate) hostname: Bytes,
    #[prost(message, repeated, tag = "4")]
    pub(crate) addresses: Vec<NetworkAddress>,
    #[prost(message, repeated, tag = "5")]
    pub(crate) ports: Vec<Port>,
    #[prost(bytes = "bytes", repeated, tag = "6")]
    pub(crate) subject_alt_names: Vec<Bytes>,
    #[prost(message, optional, tag = "7")]
    pub(crate) waypoint: Option<GatewayAddress>,
    #[prost(message, optional, tag = "8")]
    pub(crate) load_balancing: Option<LoadBalancing>,
    #[prost(int32, tag = "9")]
    pub(crate) ip_families: i32,
    #[prost(bool, tag = "11")]
    pub(crate) canonical: bool,
    #[prost(message, repeated, tag = "13")]
    pub(crate) weighted_waypoints: Vec<WeightedWaypoint>,
    #[prost(int32, tag = "14")]
    pub(crate) visibility: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct LoadBalancing {
    #[prost(int32, repeated, tag = "1")]
    pub(crate) routing_preference: Vec<i32>,
    #[prost(int32, tag = "2")]
    pub(crate) mode: i32,
    #[prost(int32, tag = "3")]
    pub(crate) health_policy: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Workload {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) name: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) namespace: Bytes,
    #[prost(bytes = "bytes", repeated, tag = "3")]
    pub(crate) addresses: Vec<Bytes>,
    #[prost(bytes = "bytes", tag = "4")]
    pub(crate) network: Bytes,
    #[prost(int32, tag = "5")]
    pub(crate) tunnel_protocol: i32,
    #[prost(bytes = "bytes", tag = "6")]
    pub(crate) trust_domain: Bytes,
    #[prost(bytes = "bytes", tag = "7")]
    pub(crate) service_account: Bytes,
    #[prost(message, optional, tag = "8")]
    pub(crate) waypoint: Option<GatewayAddress>,
    #[prost(bytes = "bytes", tag = "9")]
    pub(crate) node: Bytes,
    #[prost(bytes = "bytes", tag = "10")]
    pub(crate) canonical_name: Bytes,
    #[prost(bytes = "bytes", tag = "11")]
    pub(crate) canonical_revision: Bytes,
    #[prost(int32, tag = "12")]
    pub(crate) workload_type: i32,
    #[prost(bytes = "bytes", tag = "13")]
    pub(crate) workload_name: Bytes,
    #[prost(bool, tag = "14")]
    pub(crate) native_tunnel: bool,
    #[prost(bytes = "bytes", repeated, tag = "16")]
    pub(crate) authorization_policies: Vec<Bytes>,
    #[prost(int32, tag = "17")]
    pub(crate) status: i32,
    #[prost(bytes = "bytes", tag = "18")]
    pub(crate) cluster_id: Bytes,
    #[prost(message, optional, tag = "19")]
    pub(crate) network_gateway: Option<GatewayAddress>,
    #[prost(bytes = "bytes", tag = "20")]
    pub(crate) uid: Bytes,
    #[prost(bytes = "bytes", tag = "21")]
    pub(crate) hostname: Bytes,
    #[prost(message, repeated, tag = "22")]
    pub(crate) services: Vec<ServicesEntry>,
    #[prost(message, optional, tag = "23")]
    pub(crate) application_tunnel: Option<ApplicationTunnel>,
    #[prost(message, optional, tag = "24")]
    pub(crate) locality: Option<Locality>,
    #[prost(int32, tag = "25")]
    pub(crate) network_mode: i32,
    /// A `google.protobuf.UInt32Value`.
    #[prost(message, optional, tag = "27")]
    pub(crate) capacity: Option<u32>,
}

/// An entry of the map `Workload.services`, as maps are on the wire.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ServicesEntry {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) key: Bytes,
    #[prost(message, optional, tag = "2")]
    pub(crate) value: Option<PortList>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Locality {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) region: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) zone: Bytes,
    #[prost(bytes = "bytes", tag = "3")]
    pub(crate) subzone: Bytes,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct PortList {
    #[prost(message, repeated, tag = "1")]
    pub(crate) ports: Vec<Port>,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct Port {
    #[prost(uint32, tag = "1")]
    pub(crate) service_port: u32,
    #[prost(uint32, tag = "2")]
    pub(crate) target_port: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct ApplicationTunnel {
    #[prost(int32, tag = "1")]
    pub(crate) protocol: i32,
    #[prost(uint32, tag = "2")]
    pub(crate) port: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct GatewayAddress {
    #[prost(oneof = "Destination", tags = "1, 2")]
    pub(crate) destination: Option<Destination>,
    #[prost(uint32, tag = "3")]
    pub(crate) hbone_mtls_port: u32,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum Destination {
    #[prost(message, tag = "1")]
    Hostname(NamespacedHostname),
    #[prost(message, tag = "2")]
    Address(NetworkAddress),
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct WeightedWaypoint {
    #[prost(message, optional, tag = "1")]
    pub(crate) destination: Option<GatewayAddress>,
    #[prost(uint32, tag = "2")]
    pub(crate) weight: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct NetworkAddress {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) network: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) address: Bytes,
    #[prost(uint32, optional, tag = "3")]
    pub(crate) length: Option<u32>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct NamespacedHostname {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) namespace: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) hostname: Bytes,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Authorization {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) name: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) namespace: Bytes,
    #[prost(int32, tag = "3")]
    pub(crate) scope: i32,
    #[prost(int32, tag = "4")]
    pub(crate) action: i32,
    /// Each a [`Rule`].
    #[prost(bytes = "bytes", repeated, tag = "5")]
    pub(crate) rules: Vec<Bytes>,
    #[prost(bool, tag = "6")]
    pub(crate) dry_run: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Rule {
    /// Each a [`Clause`].
    #[prost(bytes = "bytes", repeated, tag = "1")]
    pub(crate) clauses: Vec<Bytes>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Clause {
    /// Each a [`Match`].
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub(crate) matches: Vec<Bytes>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Match {
    #[prost(message, repeated, tag = "1")]
    pub(crate) namespaces: Vec<StringMatch>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) not_namespaces: Vec<StringMatch>,
    #[prost(message, repeated, tag = "3")]
    pub(crate) principals: Vec<StringMatch>,
    #[prost(message, repeated, tag = "4")]
    pub(crate) not_principals: Vec<StringMatch>,
    #[prost(message, repeated, tag = "5")]
    pub(crate) source_ips: Vec<Block>,
    #[prost(message, repeated, tag = "6")]
    pub(crate) not_source_ips: Vec<Block>,
    #[prost(message, repeated, tag = "7")]
    pub(crate) destination_ips: Vec<Block>,
    #[prost(message, repeated, tag = "8")]
    pub(crate) not_destination_ips: Vec<Block>,
    #[prost(uint32, repeated, tag = "9")]
    pub(crate) destination_ports: Vec<u32>,
    #[prost(uint32, repeated, tag = "10")]
    pub(crate) not_destination_ports: Vec<u32>,
    #[prost(message, repeated, tag = "11")]
    pub(crate) service_accounts: Vec<ServiceAccountMatch>,
    #[prost(message, repeated, tag = "12")]
    pub(crate) not_service_accounts: Vec<ServiceAccountMatch>,
}

/// `istio.security.Address`, which is not `istio.workload.Address`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Block {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) address: Bytes,
    #[prost(uint32, tag = "2")]
    pub(crate) length: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ServiceAccountMatch {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) namespace: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) service_account: Bytes,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct StringMatch {
    #[prost(oneof = "MatchType", tags = "1, 2, 3, 4")]
    pub(crate) match_type: Option<MatchType>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum MatchType {
    #[prost(bytes = "bytes", tag = "1")]
    Exact(Bytes),
    #[prost(bytes = "bytes", tag = "2")]
    Prefix(Bytes),
    #[prost(bytes = "bytes", tag = "3")]
    Suffix(Bytes),
    /// A `google.protobuf.Empty`.
    #[prost(message, tag = "4")]
    Presence(()),
}
