//! A workload's addresses: one, most of the time, and then it lies within the workload.

use std::net::IpAddr;
use std::ops::Deref;

/// A list of addresses that does not change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addresses(Held);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Held {
    One([IpAddr; 1]),
    Many(Box<[IpAddr]>),
}

impl Deref for Addresses {
    type Target = [IpAddr];

    fn deref(&self) -> &[IpAddr] {
        match &self.0 {
            Held::One(one) => one,
            Held::Many(many) => many,
        }
    }
}

impl From<Vec<IpAddr>> for Addresses {
    fn from(list: Vec<IpAddr>) -> Self {
        Self(match list[..] {
            [one] => Held::One([one]),
            _ => Held::Many(list.into()),
        })
    }
}
