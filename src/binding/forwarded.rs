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

    /// Adds a network, an address or `unix`; returns `false` for any other text.
    #[napi(catch_unwind)]
    pub fn add(&mut self, cidr: String) -> bool {
        self.proxies.add(&cidr)
    }

    /// True if a socket's peer, an address or `unix`, is trusted.
    #[napi(catch_unwind)]
    pub fn trusts(&self, peer: String) -> bool {
        self.proxies.trusts_peer(&peer)
    }

    /// Returns the client's address: `peer` itself unless it is trusted.
    #[napi(catch_unwind)]
    pub fn client(&self, peer: String, x_forwarded_for: String, forwarded: String) -> String {
        let client = self.proxies.client(&peer, &x_forwarded_for, &forwarded);
        text_of(client, peer)
    }

    /// Returns the address in a header that holds one; `peer` unless it is trusted.
    #[napi(catch_unwind)]
    pub fn client_of_header(&self, peer: String, value: String) -> String {
        text_of(self.proxies.client_of_header(&peer, &value), peer)
    }
}

fn text_of(client: Address, peer: String) -> String {
    client.ip().map_or(peer, |ip| ip.to_string())
}
