//! Addresses of hosts.
//!
//! Owns the lookups under way, at most one for each host. The system's resolver blocks its thread until it answers or
//! gives up, and cannot be stopped. So each lookup has a thread of its own, which nobody waits for: neither the end of
//! a member nor that of the process. Connections that need the same host meanwhile share the answer.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::{LazyLock, Mutex, PoisonError};
use tokio::sync::watch;

type Found = Result<Vec<SocketAddr>, String>;
type Answer = watch::Receiver<Option<Found>>;

static UNDER_WAY: LazyLock<Mutex<HashMap<String, Answer>>> = LazyLock::new(Mutex::default);

/// Returns the addresses of a host: at least one.
///
/// # Errors
/// The resolver's problem.
pub(super) async fn addresses(host: &str, port: u16) -> Found {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let mut found = lookup(host, ask_system).await?;
    for address in &mut found {
        address.set_port(port);
    }
    Ok(found)
}

fn ask_system(host: &str) -> Found {
    #[cfg(test)]
    super::faults::hold(super::faults::LOOKUP);
    let found = (host, 0).to_socket_addrs();
    let found: Vec<_> = found.map_err(|error| error.to_string())?.collect();
    if found.is_empty() {
        return Err("the host has no address".to_owned());
    }
    Ok(found)
}

async fn lookup(host: &str, ask: fn(&str) -> Found) -> Found {
    let mut answer = under_way(host, ask)?;
    let failed = || Err("the lookup of the host has failed".to_owned());
    match answer.wait_for(Option::is_some).await {
        Ok(found) => found.clone().unwrap_or_else(failed),
        Err(_) => failed(),
    }
}

/// Returns the answer of the lookup under way, or of a new one.
fn under_way(host: &str, ask: fn(&str) -> Found) -> Result<Answer, String> {
    let lock = || UNDER_WAY.lock().unwrap_or_else(PoisonError::into_inner);
    let mut all = lock();
    // The answer of a thread that has panicked never comes.
    if let Some(answer) = all.get(host).filter(|answer| answer.has_changed().is_ok()) {
        return Ok(answer.clone());
    }
    let (sender, answer) = watch::channel(None);
    let name = host.to_owned();
    std::thread::Builder::new()
        .name("portcullis-dns".into())
        .spawn(move || {
            let found = ask(&name);
            // Before the answer: the next connection asks anew.
            lock().remove(&name);
            sender.send_replace(Some(found));
        })
        .map_err(|error| format!("no thread for the lookup of the host: {error}"))?;
    all.insert(host.to_owned(), answer.clone());
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};
    use tokio::runtime::Builder;

    static ASKED: AtomicU32 = AtomicU32::new(0);
    static GATE: Mutex<()> = Mutex::new(());

    fn slow(_: &str) -> Found {
        ASKED.fetch_add(1, Ordering::SeqCst);
        let _open = GATE.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(vec![SocketAddr::from(([10, 0, 0, 1], 0))])
    }

    #[test]
    fn attempts_of_one_host_share_a_lookup_and_the_next_one_asks_anew() {
        let runtime = Builder::new_current_thread().build().expect("a runtime");
        let closed = GATE.lock().expect("the gate");
        let first = under_way("slow.test", slow).expect("a thread");
        for _ in 0..100 {
            let other = under_way("slow.test", slow).expect("no thread");
            assert!(other.same_channel(&first));
        }
        drop(closed);
        let found = runtime.block_on(lookup("slow.test", slow));
        assert_eq!(found.map(|all| all.len()), Ok(1));
        assert!(ASKED.load(Ordering::SeqCst) <= 2);
        let asked = ASKED.load(Ordering::SeqCst);
        let again = runtime.block_on(lookup("slow.test", slow));
        assert!(again.is_ok());
        assert_eq!(ASKED.load(Ordering::SeqCst), asked + 1);
    }

    #[test]
    fn an_address_needs_no_lookup() {
        let runtime = Builder::new_current_thread().build().expect("a runtime");
        for host in ["127.0.0.1", "::1"] {
            let found = runtime.block_on(addresses(host, 7)).expect("an address");
            assert_eq!(found, [SocketAddr::new(host.parse().expect("one"), 7)]);
        }
    }
}
