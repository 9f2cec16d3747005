//! The cluster's members of one JavaScript thread, for `ts/cluster`.
//!
//! A member is named by a number of this thread, so that the table of connections can take it over.
//! Members live until their cluster and the tables that count in them are gone; at the end of the
//! environment all are.

use super::environment::{EndsWithEnvironment, end_with};
use super::memory::{Element, Memory};
use crate::cluster::{
    Client, ClusterLimits, Endpoint, JoinError, Member, Policy, Port, Request, Settings, Status,
    TlsOptions, check_endpoint, join,
};
use crate::connections::{Address, Ledger};
use crate::error::NO_THREAD;
use crate::wake_channel::LoopEnd;
use napi::bindgen_prelude::{Env, JsValue, Result, Unknown, Utf16String};
use napi_derive::napi;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock};

thread_local! {
    static MEMBERS: RefCell<HashMap<u32, Rc<Member>>> = RefCell::default();
    static NEXT: Cell<u32> = const { Cell::new(1) };
}

/// Identity of this process.
static NODE: LazyLock<String> = LazyLock::new(|| format!("{:016x}", random()));
/// Number of the next member of this process.
static LIVES: AtomicU32 = AtomicU32::new(0);

/// Returns the identity of a member, which is never used twice: two URLs may name one server, and a
/// late call of a member that has left must not count for the one that has its name now.
fn node() -> String {
    format!("{}{:x}", *NODE, LIVES.fetch_add(1, Ordering::Relaxed))
}

fn random() -> u64 {
    let mut bytes = [0; 8];
    // The operating system's randomness does not fail once it is there.
    let _ = getrandom::fill(&mut bytes);
    u64::from_ne_bytes(bytes)
}

/// Counts the seats of a table in a member.
struct Seats {
    member: Rc<Member>,
    prefix_bits: u8,
}

impl Ledger for Seats {
    fn ask(&self, address: Address, user: Option<&[u16]>, is_exempt: bool) -> (u64, i32) {
        let client = Client {
            address: address.bits(),
            prefix: address.prefix(self.prefix_bits).map(Address::bits),
            user: user.map(digest),
            is_exempt,
        };
        self.member.ask(&client, user)
    }

    fn rebind(&self, ticket: u64, user: &[u16]) -> (u64, i32) {
        self.member.rebind(ticket, digest(user), user)
    }

    fn release(&self, ticket: u64) {
        self.member.release(ticket);
    }
}

/// Returns 128 bits of a name that no client can make two names share.
fn digest(name: &[u16]) -> u128 {
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    let mut bytes = [0; 128];
    for units in name.chunks(64) {
        for (pair, unit) in bytes.chunks_exact_mut(2).zip(units) {
            pair.copy_from_slice(&unit.to_le_bytes());
        }
        context.update(&bytes[..units.len() * 2]);
    }
    let hash = context.finish();
    let mut first = [0; 16];
    first.copy_from_slice(&hash.as_ref()[..16]);
    u128::from_be_bytes(first)
}

/// Returns the ledger of a member; `None` once its cluster is closed.
pub(super) fn ledger_of(member: u32, prefix_bits: u8) -> Option<Box<dyn Ledger>> {
    let member = MEMBERS.with_borrow(|members| members.get(&member).cloned())?;
    Some(Box::new(Seats {
        member,
        prefix_bits,
    }))
}

/// TLS to the servers; texts are PEM.
#[napi(object)]
pub struct ClusterTls {
    /// Authorities that are trusted.
    pub ca: Option<String>,
    /// Certificate of this client.
    pub cert: Option<String>,
    /// Its private key.
    pub key: Option<String>,
    /// Name in the server's certificate.
    pub server_name: Option<String>,
}

/// Options of a cluster, checked by JavaScript.
#[napi(object)]
pub struct ClusterConfig {
    /// URLs of the server, of the Sentinels, or of nodes of a Redis Cluster.
    pub urls: Vec<String>,
    /// Name of the primary that the Sentinels watch.
    pub sentinel_master: Option<String>,
    /// TLS, for `rediss:`.
    pub tls: Option<ClusterTls>,
    /// User name.
    pub username: Option<String>,
    /// Password.
    pub password: Option<String>,
    /// Prefix of all keys.
    pub prefix: String,
    /// Name of the process.
    pub node_name: String,
    /// Lease, ms.
    pub lease_ms: f64,
    /// Interval of beats, ms.
    pub beat_ms: f64,
    /// Longest wait for an answer, ms.
    pub admit_timeout_ms: f64,
    /// Longest time that a connection may take, ms.
    pub connect_timeout_ms: f64,
    /// Members that are expected.
    pub expected_members: u32,
    /// Revision of the limits.
    pub limits_revision: u32,
    /// 0 share, 1 open, 2 closed.
    pub policy: u32,
    /// Most admissions of a batch.
    pub batch_max: u32,
    /// Time for which a refusal is repeated without asking, ms.
    pub reject_cache_ms: f64,
    /// Longest time from a released seat to the call that tells it, ms.
    pub release_delay_ms: f64,
    /// Seats of the total that are held ahead.
    pub lease_total: u32,
    /// True to tell the names of users.
    pub keeps_names: bool,
    /// True to accept a server that evicts keys.
    pub allow_eviction: bool,
}

/// Figures of a member.
#[napi(object)]
pub struct ClusterFigures {
    /// 0 joining, 1 settling, 2 up, 3 unreachable, 4 closed.
    pub state: u32,
    /// Time since the last change of state, ms.
    pub since_ms: f64,
    /// Members of the cluster.
    pub members: u32,
    /// Members of the cluster when it had settled last, or more of them that were seen since.
    pub known_members: u32,
    /// Seats of this process.
    pub seats: u32,
    /// Seats of this process that the server knows.
    pub told: u32,
    /// Clients that wait.
    pub waiting: u32,
    /// Revision of the limits in force.
    pub revision: u32,
    /// True if those are not the declared ones.
    pub limits_differ: bool,
    /// The limits in force: total, prefix, address, user, anonymous, anonymous address, unknown, then
    /// interval and burst of the rate of a network and of a user.
    pub limits: Vec<f64>,
    /// Time that is left of a drain of all members, ms.
    pub drain_ms: f64,
    /// Reason of that drain.
    pub drain_reason: String,
    /// Last problem, empty if there is none.
    pub problem: String,
    /// Admissions that the server granted.
    pub granted: f64,
    /// Admissions that the server refused.
    pub refused: f64,
    /// Admissions refused since the server had just refused the same key.
    pub cached: f64,
    /// Admissions from seats that were held ahead.
    pub ahead: f64,
    /// Admissions that the policy granted.
    pub local: f64,
    /// Admissions that the policy refused.
    pub unreachable: f64,
    /// Calls that were answered.
    pub calls: f64,
    /// Connections made.
    pub connects: f64,
    /// Keys published.
    pub published: f64,
    /// Keys that an audit found different.
    pub drift: f64,
    /// Times that the place on the server was lost.
    pub lost: f64,
    /// Members declared dead.
    pub declared: f64,
    /// Newcomers that were granted the seat of an older connection.
    pub takeovers: f64,
    /// Connections and waiting newcomers of this process that a newcomer has replaced.
    pub replaced: f64,
    /// Bugs of the network's thread that were contained.
    pub contained: f64,
    /// Events that were read.
    pub events: f64,
    /// Times that events were missed, or may have been.
    pub gaps: f64,
}

/// The outcome of a request, or news.
#[napi(object)]
pub struct ClusterMail {
    /// Number of the member.
    pub member: u32,
    /// Ticket of the request; 0 for news.
    pub ticket: f64,
    /// The outcome.
    pub code: i32,
    /// The parts; the first of news is their kind.
    pub parts: Vec<String>,
}

impl From<Status> for ClusterFigures {
    fn from(status: Status) -> Self {
        let counts = status.counts;
        Self {
            state: status.state as u32,
            since_ms: status.since_ms,
            members: status.members,
            known_members: status.known_members,
            seats: status.seats,
            told: status.told,
            waiting: status.waiting,
            revision: status.revision,
            limits_differ: status.limits_differ,
            limits: status.limits.to_vec(),
            drain_ms: status.drain_ms,
            drain_reason: status.drain_reason,
            problem: status.problem,
            granted: counts.granted as f64,
            refused: counts.refused as f64,
            cached: counts.cached as f64,
            ahead: counts.ahead as f64,
            local: counts.local as f64,
            unreachable: counts.unreachable as f64,
            calls: counts.calls as f64,
            connects: counts.connects as f64,
            published: counts.published as f64,
            drift: counts.drift as f64,
            lost: counts.lost as f64,
            declared: counts.declared as f64,
            takeovers: counts.takeovers as f64,
            replaced: counts.replaced as f64,
            contained: counts.contained as f64,
            events: counts.events as f64,
            gaps: counts.gaps as f64,
        }
    }
}

fn endpoint_of(config: &ClusterConfig) -> Endpoint {
    Endpoint {
        urls: config.urls.clone(),
        sentinel_master: config.sentinel_master.clone(),
        username: config.username.clone(),
        password: config.password.clone(),
        tls: config.tls.as_ref().map(|tls| TlsOptions {
            ca: tls.ca.clone(),
            cert: tls.cert.clone(),
            key: tls.key.clone(),
            server_name: tls.server_name.clone(),
        }),
        connect_timeout_ms: config.connect_timeout_ms,
        allow_eviction: config.allow_eviction,
    }
}

/// Members of this cluster, by number; empty once it is closed.
struct Joined {
    members: Vec<(u32, Rc<Member>)>,
    port: Option<Arc<Port>>,
    answers: Option<Memory<f64>>,
}

impl EndsWithEnvironment for Joined {
    fn end(&mut self) {
        for (id, member) in self.members.drain(..) {
            MEMBERS.with_borrow_mut(|members| members.remove(&id));
            member.close();
        }
        self.port = None;
        self.answers = None;
    }
}

/// A cluster as one JavaScript thread sees it.
#[napi]
pub struct NativeCluster {
    joined: Rc<RefCell<Joined>>,
    config: ClusterConfig,
    loop_end: Option<LoopEnd>,
}

#[napi]
impl NativeCluster {
    /// Opens the thread's port. `answers` takes triples of member, ticket and code.
    #[napi(constructor, catch_unwind)]
    pub fn new(
        env: &Env,
        #[napi(ts_arg_type = "Float64Array")] answers: Unknown<'_>,
        config: ClusterConfig,
    ) -> Result<Self> {
        check_endpoint(&endpoint_of(&config)).map_err(napi::Error::from_reason)?;
        let answers = Memory::<f64>::borrow(env.raw(), answers.raw())
            .map_err(|wrong| napi::Error::from_reason(wrong.0.to_string_lossy()))?;
        let (port, loop_end) = Port::open().ok_or_else(|| {
            napi::Error::from_reason("ERR_UNSUPPORTED: the cluster needs a Unix socket pair")
        })?;
        let joined = Rc::new(RefCell::new(Joined {
            members: Vec::new(),
            port: Some(Arc::new(port)),
            answers: Some(answers),
        }));
        end_with(env, &joined);
        Ok(Self {
            joined,
            config,
            loop_end: Some(loop_end),
        })
    }

    /// Returns the loop's end of the wake socket, once; -1 afterwards. The caller owns it from then
    /// on.
    #[napi(catch_unwind)]
    pub fn take_descriptor(&mut self) -> i32 {
        self.loop_end.take().map_or(-1, LoopEnd::into_descriptor)
    }

    /// Joins with the managers of that name; returns the number of the member. `limits` as for
    /// `createConnections`.
    #[napi(catch_unwind)]
    pub fn join(&self, name: String, limits: Vec<f64>, closes_oldest: bool) -> Result<u32> {
        let config = &self.config;
        let limit = |at: usize| limits.get(at).map_or(u32::MAX, |number| *number as u32);
        let rate = |at: usize| limits.get(at).copied().unwrap_or_default();
        let mut joined = self.joined.borrow_mut();
        let Some(port) = joined.port.clone() else {
            return Err(napi::Error::from_reason(
                "ERR_CLOSED: the cluster is closed",
            ));
        };
        let endpoint = endpoint_of(config);
        let settings = Settings {
            name,
            prefix: config.prefix.clone(),
            node_name: config.node_name.clone(),
            node: node(),
            lease_ms: config.lease_ms,
            beat_ms: config.beat_ms,
            admit_timeout_ms: config.admit_timeout_ms,
            expected_members: config.expected_members,
            revision: config.limits_revision,
            limits: ClusterLimits {
                total: limit(0),
                address: limit(1),
                prefix: limit(2),
                user: limit(3),
                anonymous: limit(4),
                anonymous_address: limit(5),
                unknown: limit(6),
                ip_rate: [rate(8), rate(9)],
                user_rate: [rate(10), rate(11)],
            },
            policy: match config.policy {
                0 => Policy::Share,
                1 => Policy::Open,
                _ => Policy::Closed,
            },
            batch_max: config.batch_max as usize,
            reject_cache_ms: config.reject_cache_ms,
            release_delay_ms: config.release_delay_ms,
            lease_total: config.lease_total,
            closes_oldest,
            keeps_names: config.keeps_names,
            entropy: [random(), random(), random(), random()],
        };
        let id = NEXT.replace(NEXT.get().wrapping_add(1));
        let member = join(endpoint, settings, port, id).map_err(|error| {
            let code = match &error {
                JoinError::Conflict(conflict) => conflict.code(),
                // It has its code.
                JoinError::Config(problem) => return napi::Error::from_reason(problem.clone()),
                JoinError::Thread(_) => NO_THREAD,
            };
            napi::Error::from_reason(format!("{code}: {error}"))
        })?;
        let member = Rc::new(member);
        joined.members.push((id, Rc::clone(&member)));
        MEMBERS.with_borrow_mut(|members| members.insert(id, member));
        Ok(id)
    }

    /// Writes answers into the shared array, as many as there is room for; returns their number. A
    /// ticket of 0 tells that a state has changed.
    #[napi(catch_unwind)]
    pub fn drain(&self) -> u32 {
        let joined = self.joined.borrow();
        let (Some(port), Some(out)) = (&joined.port, &joined.answers) else {
            return 0;
        };
        let cells = out.cells();
        let answers = port.take(cells.len() / 3);
        for (cells, answer) in cells.chunks_exact(3).zip(&answers) {
            for (cell, number) in cells.iter().zip(answer) {
                f64::store(cell, *number);
            }
        }
        answers.len() as u32
    }

    /// Takes the outcomes of requests, and news.
    #[napi(catch_unwind)]
    pub fn mail(&self) -> Vec<ClusterMail> {
        let joined = self.joined.borrow();
        let Some(port) = &joined.port else {
            return Vec::new();
        };
        let mails = port.take_mail().into_iter();
        let text = |part: Vec<u8>| String::from_utf8_lossy(&part).into_owned();
        mails
            .map(|mail| ClusterMail {
                member: mail.member,
                ticket: mail.ticket as f64,
                code: mail.code,
                parts: mail.parts.into_iter().map(text).collect(),
            })
            .collect()
    }

    /// Makes a request of a member; returns its ticket, whose outcome comes as mail; 0 once the member
    /// has left, or for a kind that is unknown. `name` is the user or the key, `texts` and `numbers` are as
    /// `request_of` takes them.
    #[napi(catch_unwind)]
    pub fn request(
        &self,
        member: u32,
        kind: u32,
        name: Utf16String,
        texts: Vec<String>,
        numbers: Vec<f64>,
    ) -> f64 {
        let joined = self.joined.borrow();
        let found = joined.members.iter().find(|(id, _)| *id == member);
        let (Some((_, member)), Some(request)) = (found, request_of(kind, &name, texts, &numbers))
        else {
            return 0.0;
        };
        member.request(request) as f64
    }

    /// Returns the figures of a member; absent once it has left.
    #[napi(catch_unwind)]
    pub fn figures(&self, member: u32) -> Option<ClusterFigures> {
        let joined = self.joined.borrow();
        let (_, member) = joined.members.iter().find(|(id, _)| *id == member)?;
        Some(member.status().into())
    }

    /// Leaves with all members. May be called again.
    #[napi(catch_unwind)]
    pub fn close(&self) {
        self.joined.borrow_mut().end();
    }
}

/// Returns the request of a kind: 0 kick, 1 who, 2 nodes, 3 drain, 4 limits, 5 revoke, 6 revocations, 7 take, 8 online.
fn request_of(kind: u32, name: &[u16], texts: Vec<String>, numbers: &[f64]) -> Option<Request> {
    let number = |at: usize| numbers.get(at).copied().unwrap_or_default();
    let mut texts = texts.into_iter().map(String::into_bytes);
    Some(match kind {
        0 => Request::Kick {
            user: digest(name),
            data: texts.next()?,
        },
        1 => Request::Who { user: digest(name) },
        2 => Request::Nodes,
        3 => Request::Drain {
            ms: number(0),
            reason: texts.next()?,
        },
        4 => Request::Limits {
            revision: number(0) as u32,
            numbers: numbers.get(1..)?.try_into().ok()?,
        },
        5 => Request::Revoke {
            most: number(0) as u32,
            now_ms: number(1),
            data: texts.next()?,
            entries: numbers.iter().skip(2).copied().zip(texts).collect(),
        },
        6 => Request::Revocations {
            cursor: texts.next()?,
        },
        7 => Request::Take {
            key: digest(name),
            interval_ms: number(0),
            burst: number(1),
            cost: number(2),
        },
        8 => Request::Online {
            from: number(0) as u32,
            most: number(1) as u32,
        },
        _ => return None,
    })
}
