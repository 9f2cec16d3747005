//! The client's address behind trusted proxies, for `ts/guard`. Called once per connection attempt.

use crate::connections::{self, Address};
use napi_derive::napi;

/// The proxies whose `X-Forwarded-For` and `Forwarded` headers are trusted.
#[napi]
#[derive(Default)]
pub struct TrustedProxies {
    proxies: connections::TrustedProxies,
}

#[napi]
impl TrustedProxies {
    /// Creates an empty list.
    #[napi(constructor, catch_unwind)]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a network or an address; returns `false` if the text is neither.
    #[napi(catch_unwind)]
    pub fn add(&mut self, cidr: String) -> bool {
        self.proxies.add(&cidr)
    }

    /// Returns the client's address: `peer` itself unless it is trusted.
    #[napi(catch_unwind)]
    pub fn client(&self, peer: String, x_forwarded_for: String, forwarded: String) -> String {
        self.proxies
            .client(Address::parse(&peer), &x_forwarded_for, &forwarded)
            .ip()
            .map_or(peer, |ip| ip.to_string())
    }
}
