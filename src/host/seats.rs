//! The seats of one process that are counted with those of all processes of its host.
//!
//! Owns the order of the checks over both. The counts, connect rates and message rates of this
//! process stand in an index of its own, which has no limits of counts: those are the file's.
//!
//! A seat is taken in the index first, where it spends its connect rates, then in the file. Full
//! counts are looked for before, so that a refusal by a limit spends no rate, as without a file.

use super::error::HostError;
use super::file::HostFile;
use super::key::Keys;
use super::layout::{LIMITS, Layout};
use super::table::{CLAIMS_MAX, Claim, Count, HostTable, Refused};
use super::watch::Watch;
use crate::connections::{
    Address, Admission, ExceededRate, HeldCells, Holder, Limits, Mode, NO_LIMIT, Refusal,
    RefusalCode, Replaced, SeatIndex, Shared, UserKey, Verdict,
};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Names of the limits in the file, in their order.
const FIELDS: [&str; LIMITS] = [
    "maxTotalConnections",
    "maxConnectionsPerIp",
    "maxConnectionsPerPrefix",
    "maxConnectionsPerUser",
    "maxAnonymousConnections",
    "maxAnonymousConnectionsPerIp",
    "maxUnknownIpConnections",
    "ipv6PrefixBits",
];

const TOTAL: usize = 0;
const PER_IP: usize = 1;
const PER_PREFIX: usize = 2;
const PER_USER: usize = 3;
const ANONYMOUS: usize = 4;
const ANONYMOUS_PER_IP: usize = 5;
const UNKNOWN: usize = 6;

fn words(limits: &Limits) -> [u64; LIMITS] {
    [
        limits.total.into(),
        limits.per_ip.into(),
        limits.per_prefix.into(),
        limits.per_user.into(),
        limits.anonymous.into(),
        limits.anonymous_per_ip.into(),
        limits.unknown.into(),
        limits.prefix_bits.into(),
    ]
}

/// Returns the limits of the process's own index: only its rates refuse.
fn without_counts(limits: Limits) -> Limits {
    Limits {
        prefix_bits: limits.prefix_bits,
        ip_rate: limits.ip_rate,
        user_rate: limits.user_rate,
        message_user_rate: limits.message_user_rate,
        message_ip_rate: limits.message_ip_rate,
        ..Limits::default()
    }
}

/// The counts of a seat, in the order of their checks.
struct Claims {
    list: [Claim<RefusalCode>; CLAIMS_MAX],
    count: usize,
}

impl Claims {
    fn new() -> Self {
        let none = Claim {
            count: Count::Total,
            limit: None,
            code: RefusalCode::Total,
        };
        Self {
            list: [none; CLAIMS_MAX],
            count: 0,
        }
    }

    fn push(&mut self, claim: Claim<RefusalCode>) {
        self.list[self.count] = claim;
        self.count += 1;
    }

    fn all(&self) -> &[Claim<RefusalCode>] {
        &self.list[..self.count]
    }

    /// Lets no limit of these counts refuse.
    fn admit_all(&mut self) {
        for claim in &mut self.list[..self.count] {
            claim.limit = None;
        }
    }
}

/// The seats of one name in this process, within those of the host.
pub struct HostSeats {
    // First: the thread ends before the file is left.
    watch: Option<Watch>,
    own: SeatIndex<Shared>,
    table: Arc<HostTable>,
    keys: Keys,
    /// Limits that this process began with; those of counts are the first process's. A count without
    /// one is not kept for the life of the file.
    declared: Limits,
}

impl HostSeats {
    /// Opens the file at `path`, and takes a column of it.
    ///
    /// # Errors
    /// [`HostError`]
    pub fn open(path: &Path, layout: Layout, limits: Limits) -> Result<Self, HostError> {
        let declared = words(&limits);
        let file = HostFile::open(path, layout, &declared)?;
        let found = file.declared().iter().map(|word| word.load(Relaxed));
        if let Some(at) = found.zip(declared).position(|(found, own)| found != own) {
            return Err(HostError::Conflict { field: FIELDS[at] });
        }
        Ok(Self {
            watch: None,
            own: SeatIndex::with_secret(without_counts(limits), file.secret()),
            keys: Keys::new(file.secret(), file.layout()),
            table: Arc::new(HostTable::new(file)),
            declared: limits,
        })
    }

    /// Starts the thread that frees the seats of processes that have ended.
    ///
    /// # Errors
    /// The system has no thread left.
    pub fn watch(&mut self) -> io::Result<()> {
        self.watch = Some(Watch::start(Arc::clone(&self.table))?);
        Ok(())
    }

    /// Returns the first size or limit that another opener of the name in this process has otherwise, rates included.
    #[must_use]
    pub fn difference(&self, layout: Layout, limits: &Limits) -> Option<&'static str> {
        let own = self.table.file().layout();
        if own.columns != layout.columns {
            return Some("hostProcesses");
        }
        if own != layout {
            return Some("hostCapacity");
        }
        self.declared.difference(limits)
    }

    /// Frees the seats of processes that have ended, as the thread does.
    #[cfg(test)]
    pub(super) fn reclaim(&self) {
        self.table.file().reclaim();
    }

    /// Returns a limit in force. Relaxed: each is read by itself, and a change may be seen one
    /// admission later.
    fn limit(&self, place: usize) -> u32 {
        self.table.file().in_force()[place].load(Relaxed) as u32
    }

    /// Returns the limits in force: those of counts of all processes, the others from `own`.
    fn in_force(&self, own: Limits) -> Limits {
        Limits {
            total: self.limit(TOTAL),
            per_ip: self.limit(PER_IP),
            per_prefix: self.limit(PER_PREFIX),
            per_user: self.limit(PER_USER),
            anonymous: self.limit(ANONYMOUS),
            anonymous_per_ip: self.limit(ANONYMOUS_PER_IP),
            unknown: self.limit(UNKNOWN),
            ..own
        }
    }

    fn claim(
        &self,
        count: Count,
        place: usize,
        code: RefusalCode,
        has_room: bool,
    ) -> Claim<RefusalCode> {
        let limit = self.limit(place);
        Claim {
            count,
            // The seat of a replaced connection counts as free.
            limit: (limit != NO_LIMIT).then(|| limit.saturating_add(has_room.into())),
            code,
        }
    }

    /// Adds the counts that need no identity: total, prefix, address.
    fn claim_door(
        &self,
        claims: &mut Claims,
        address: Address,
        is_exempt: bool,
        replaced: Replaced,
    ) {
        let leaves = replaced.map(|(from, _)| from);
        let total = self.claim(Count::Total, TOTAL, RefusalCode::Total, replaced.is_some());
        claims.push(total);
        let bits = self.declared.prefix_bits;
        let keeps = |limit: u32| limit != NO_LIMIT;
        let own = |mut claim: Claim<RefusalCode>| {
            claim.limit = claim.limit.filter(|_| !is_exempt);
            claim
        };
        if keeps(self.declared.per_prefix)
            && let Some(prefix) = address.prefix(bits)
        {
            let has_room = leaves.is_some_and(|from| from.prefix(bits) == Some(prefix));
            let count = Count::Of(self.keys.prefix(prefix));
            claims.push(own(self.claim(
                count,
                PER_PREFIX,
                RefusalCode::Prefix,
                has_room,
            )));
        }
        let (declared, place, code) = if address == Address::UNKNOWN {
            (self.declared.unknown, UNKNOWN, RefusalCode::Unknown)
        } else {
            (self.declared.per_ip, PER_IP, RefusalCode::Ip)
        };
        if keeps(declared) {
            let count = Count::Of(self.keys.address(address));
            claims.push(own(self.claim(count, place, code, leaves == Some(address))));
        }
    }

    /// Adds the counts of an identity: the user, or an anonymous client. `over` lets the limit of the
    /// user refuse nobody.
    fn claim_identity(
        &self,
        claims: &mut Claims,
        address: Address,
        user: Option<UserKey>,
        is_exempt: bool,
        replaced: Replaced,
        over: bool,
    ) {
        let holder = Holder::from(user);
        let Some(user) = user else {
            let has_room = replaced == Some((address, holder));
            if self.declared.anonymous_per_ip != NO_LIMIT {
                let count = Count::Of(self.keys.anonymous(address));
                let code = RefusalCode::AnonymousIp;
                let mut claim = self.claim(count, ANONYMOUS_PER_IP, code, has_room);
                claim.limit = claim.limit.filter(|_| !is_exempt);
                claims.push(claim);
            }
            let has_room = replaced.is_some_and(|(_, from)| from == holder);
            let code = RefusalCode::Anonymous;
            claims.push(self.claim(Count::Anonymous, ANONYMOUS, code, has_room));
            return;
        };
        if self.declared.per_user != NO_LIMIT {
            let has_room = replaced.is_some_and(|(_, from)| from == holder);
            let count = Count::Of(self.keys.user(user));
            let mut claim = self.claim(count, PER_USER, RefusalCode::User, has_room);
            claim.limit = claim.limit.filter(|_| !over);
            claims.push(claim);
        }
    }

    /// Looks for a full count. Limits that are only observed refuse nobody: the first full one is
    /// noted.
    fn look(
        &self,
        claims: &mut Claims,
        observed: &mut Option<RefusalCode>,
        mode: Mode,
    ) -> Result<(), Refusal> {
        let full = self.table.full(claims.all());
        if mode == Mode::Enforce {
            return full.map_or(Ok(()), |code| Err(Refusal::of(code)));
        }
        *observed = observed.or(full);
        claims.admit_all();
        Ok(())
    }

    fn take(&self, claims: &Claims) -> Result<(), Refusal> {
        self.table.take(claims.all()).map_err(|refused| {
            Refusal::of(match refused {
                Refused::Limit(code) => code,
                Refused::NoRow => RefusalCode::HostFull,
            })
        })
    }

    fn give(&self, claims: &Claims) {
        for claim in claims.all() {
            self.table.give(claim.count);
        }
    }

    fn give_identity(&self, address: Address, user: Option<UserKey>) {
        let mut claims = Claims::new();
        self.claim_identity(&mut claims, address, user, false, None, false);
        self.give(&claims);
    }
}

impl Admission for HostSeats {
    fn user_key(&self, name: &[u16]) -> UserKey {
        self.own.user_key(name)
    }

    fn arrive(&self, address: Address, now: f64, mode: Mode) -> Verdict {
        if self.own.is_draining() {
            return Err(Refusal::of(RefusalCode::Draining));
        }
        let mut observed = None;
        let mut claims = Claims::new();
        self.claim_door(&mut claims, address, now.is_infinite(), None);
        self.look(&mut claims, &mut observed, mode)?;
        let rate = self.own.arrive(address, now, mode)?;
        self.take(&claims)
            .inspect_err(|_| self.own.release(address, Holder::Pending))?;
        Ok(observed.or(rate))
    }

    fn identify(
        &self,
        address: Address,
        user: Option<UserKey>,
        now: f64,
        over: bool,
        mode: Mode,
    ) -> Verdict {
        let mut observed = None;
        let mut claims = Claims::new();
        self.claim_identity(&mut claims, address, user, now.is_infinite(), None, over);
        self.look(&mut claims, &mut observed, mode)?;
        let rate = self.own.identify(address, user, now, over, mode)?;
        self.take(&claims)
            .inspect_err(|_| self.own.leave_user(address, user))?;
        Ok(observed.or(rate))
    }

    /// Looks for a full count of the address, then of the user, as the two steps do; but takes all
    /// seats of the file at once, so that a refusal shows no seat to others.
    fn reserve(
        &self,
        address: Address,
        user: Option<UserKey>,
        now: f64,
        replaced: Replaced,
        over: bool,
        mode: Mode,
    ) -> Verdict {
        if self.own.is_draining() {
            return Err(Refusal::of(RefusalCode::Draining));
        }
        let is_exempt = now.is_infinite();
        let mut observed = None;
        let mut claims = Claims::new();
        self.claim_door(&mut claims, address, is_exempt, replaced);
        self.look(&mut claims, &mut observed, mode)?;
        // In the order of one process: the rate of the address, then the limits of the identity.
        observed = observed.or(self.own.arrive(address, now, mode)?);
        let leave = |_: &Refusal| self.own.release(address, Holder::Pending);
        self.claim_identity(&mut claims, address, user, is_exempt, replaced, over);
        self.look(&mut claims, &mut observed, mode)
            .inspect_err(leave)?;
        let user_rate = self
            .own
            .identify(address, user, now, over, mode)
            .inspect_err(leave)?;
        self.take(&claims)
            .inspect_err(|_| self.own.release(address, Holder::from(user)))?;
        Ok(observed.or(user_rate))
    }

    fn release(&self, address: Address, holder: Holder) {
        let mut claims = Claims::new();
        self.claim_door(&mut claims, address, false, None);
        match holder {
            Holder::Pending => {}
            Holder::Anonymous => {
                self.claim_identity(&mut claims, address, None, false, None, false);
            }
            Holder::User(user) => {
                self.claim_identity(&mut claims, address, Some(user), false, None, false);
            }
        }
        self.give(&claims);
        self.own.release(address, holder);
    }

    fn rebind(&self, address: Address, from: Option<UserKey>, to: UserKey, mode: Mode) -> Verdict {
        if from == Some(to) {
            return Ok(None);
        }
        let observed = self.add_user(to, mode)?;
        self.leave_user(address, from);
        Ok(observed)
    }

    fn add_user(&self, to: UserKey, mode: Mode) -> Verdict {
        let mut observed = None;
        let mut claims = Claims::new();
        self.claim_identity(&mut claims, Address::UNKNOWN, Some(to), false, None, false);
        self.look(&mut claims, &mut observed, mode)?;
        self.take(&claims)?;
        // It has no limit of users that could refuse.
        let own = self.own.add_user(to, mode);
        own.inspect_err(|_| self.give(&claims))?;
        Ok(observed)
    }

    fn leave_user(&self, address: Address, from: Option<UserKey>) {
        self.give_identity(address, from);
        self.own.leave_user(address, from);
    }

    fn is_over(&self, user: UserKey) -> bool {
        let limit = self.limit(PER_USER);
        if self.declared.per_user == NO_LIMIT || limit == NO_LIMIT {
            return false;
        }
        // A connection is closed for this: not for a seat that another process takes and gives back
        // at this moment.
        let count = Count::Of(self.keys.user(user));
        (1..=3).all(|look| {
            self.table.pause(look);
            self.table.count(count) > u64::from(limit)
        })
    }

    fn limits(&self) -> Limits {
        self.in_force(self.own.limits())
    }

    /// Changes the limits of counts in all processes, and the rates of this one.
    fn change_limits(&self, change: &dyn Fn(&mut Limits)) {
        self.own.change_limits(&|own| {
            let before = self.in_force(*own);
            let mut limits = before;
            change(&mut limits);
            let words = words(&before).into_iter().zip(words(&limits));
            for (cell, (before, limit)) in self.table.file().in_force().iter().zip(words) {
                // Only what has changed: another process may be changing the others at this moment.
                if before != limit {
                    cell.store(limit, Relaxed);
                }
            }
            *own = without_counts(limits);
        });
    }

    fn has_rates(&self) -> bool {
        self.own.has_rates()
    }

    fn set_draining(&self, draining: bool) {
        self.own.set_draining(draining);
    }

    fn is_draining(&self) -> bool {
        self.own.is_draining()
    }

    fn total(&self) -> u32 {
        self.own.total()
    }

    fn message(
        &self,
        held: &mut HeldCells,
        address: Address,
        user: Option<UserKey>,
        now: f64,
    ) -> Result<(), ExceededRate> {
        self.own.message(held, address, user, now)
    }

    fn release_cells(&self, held: HeldCells, address: Address, user: Option<UserKey>) {
        self.own.release_cells(held, address, user);
    }

    fn move_cells(&self, held: &mut HeldCells, from: Option<UserKey>) {
        self.own.move_cells(held, from);
    }

    fn message_keys(&self) -> u32 {
        self.own.message_keys()
    }

    fn counts(&self) -> [u32; 4] {
        self.own.counts()
    }

    fn host(&self) -> Option<[u32; 3]> {
        let count = |count| u32::try_from(self.table.count(count)).unwrap_or(u32::MAX);
        Some([
            count(Count::Total),
            count(Count::Anonymous),
            self.table.file().processes() as u32,
        ])
    }
}
