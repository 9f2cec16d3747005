//! Numbered calls: what the member tells and asks, one call at a time, and what it makes of the replies.

use super::super::call::{Asked, BatchRates, Contents, LOOK, MOVE, PUBLISH_MAX};
use super::super::code::{CODES, GRANTED, IP_RATE, TAKING, USER_RATE};
use super::super::notice::Notice;
use super::super::reject_cache;
use super::super::reply::Reply;
use super::super::settings::Policy;
use super::calls::Flight;
use super::tickets::Place;
use super::{Answer, Core, State};

/// Keys of which one batch gives seats back.
const RELEASES_MAX: usize = 1024;

impl Core {
    /// Chooses the next numbered call, if there is one to make.
    pub(super) fn next_flight(&mut self, now: f64) -> Option<Flight> {
        let member = self.member.as_ref()?;
        let is_active = member.is_active;
        if self.closing.is_some() {
            return None;
        }
        let contents = if !is_active {
            if self.has_news() {
                self.publish()
            } else {
                Contents::Activate
            }
        } else if self.trouble {
            return None;
        } else if self.is_over() || self.tells_keys(now) {
            self.next_tell_ms = now + self.settings.release_delay_ms;
            self.publish()
        } else {
            self.batch(now).or_else(|| self.audit(now))?
        };
        Some(Flight {
            sent: None,
            contents,
            is_suspect: false,
        })
    }

    fn publish(&mut self) -> Contents {
        let taken = self.column.take_dirty(PUBLISH_MAX);
        self.release_ms = None;
        self.counts.published += taken.len() as u64;
        Contents::Publish {
            counts: taken
                .into_iter()
                .map(|(key, held, _)| (key, held))
                .collect(),
            seats: self.seats_to_tell(),
            anonymous: self.column.anonymous.held,
            is_audit: false,
        }
    }

    fn batch(&mut self, now: f64) -> Option<Contents> {
        let is_up = self.current() == State::Up;
        let looks = is_up && !self.takers.is_empty() && now >= self.next_look_ms;
        let asks = is_up && (self.waiting.count() > 0 || looks || self.ahead_to_ask(now) > 0);
        let releases_due = self.release_ms.is_some_and(|due| due <= now);
        if !(asks || releases_due && self.has_news()) {
            if releases_due {
                self.release_ms = None;
            }
            return None;
        }
        let mut asked = Vec::new();
        if looks {
            self.look(now, &mut asked);
        }
        while asks
            && asked.len() < self.settings.batch_max
            && let Some(ticket) = self.waiting.next()
        {
            // A client that left has freed its ticket.
            let Some(at) = self
                .tickets
                .find(ticket)
                .filter(|&at| self.tickets[at].place == Place::Waiting)
            else {
                continue;
            };
            self.waiting.leave();
            let found = &mut self.tickets[at];
            found.place = Place::Flying;
            asked.push(Asked {
                ticket,
                keys: found.keys,
                flags: found.flags,
            });
        }
        if is_up {
            self.ask_ahead(now, &mut asked);
        }
        let mut releases = Vec::new();
        for (key, held, told) in self.column.take_dirty(RELEASES_MAX) {
            if held < told {
                releases.push((key, told - held));
            } else {
                self.column.put_back(key);
                self.column.leave(key);
            }
        }
        let (seats, anonymous) = (self.seats_to_release(), self.column.anonymous.to_release());
        self.release_ms = self
            .has_news()
            .then_some(now + self.settings.release_delay_ms);
        if releases.is_empty() && asked.is_empty() && seats == 0 && anonymous == 0 {
            self.release_ms = None;
            return None;
        }
        let contents = Contents::Batch {
            releases,
            seats,
            anonymous,
            asked,
            rates: BatchRates {
                of_network: self.limits.ip_rate[0] > 0.0,
                of_user: self.limits.user_rate[0] > 0.0,
                is_strict: self.settings.policy == Policy::Closed,
            },
        };
        // The keys of releases are in use already.
        if let Contents::Batch { asked, .. } = &contents {
            for key in asked.iter().flat_map(|one| one.keys.into_iter().flatten()) {
                self.column.keep(key);
            }
        }
        Some(contents)
    }

    /// Publishes a part of the counts that agree: the server may have lost a bucket.
    fn audit(&mut self, now: f64) -> Option<Contents> {
        let counts = self.audit.next(now, &mut self.column)?;
        Some(Contents::Publish {
            counts,
            seats: self.column.seats.told,
            anonymous: self.column.anonymous.told,
            is_audit: true,
        })
    }

    /// Sends the call under way, unless it is sent on this connection already.
    pub(super) fn send_flight(&mut self) {
        let (Some(member), Some(flight)) = (&self.member, &self.flight) else {
            return;
        };
        if flight.sent.is_some() || (self.trouble && member.is_active) {
            return;
        }
        let command =
            flight
                .contents
                .command(member.answered + 1, &self.space, &member.seat, &self.column);
        let number = self.calls.send(command);
        if let Some(flight) = &mut self.flight {
            flight.sent = Some(number);
        }
    }

    /// Frees the tickets and keys of a call that is over.
    pub(super) fn end_flight(&mut self, contents: &Contents) {
        if let Contents::Batch { asked, .. } = contents {
            for one in asked {
                if let Some(at) = self.tickets.find(one.ticket) {
                    if self.tickets[at].is_held {
                        self.tickets[at].place = Place::Held;
                    } else {
                        self.dispose(at);
                    }
                }
            }
        }
        for key in contents.kept() {
            // A count that was told in vain is told again.
            self.column.put_back(key);
            self.column.leave(key);
        }
    }

    /// Takes the reply to the call under way.
    pub(super) fn landed(&mut self, now: f64, reply: &Reply) {
        if self.is_lost(now, reply) {
            return;
        }
        let results = match reply.text() {
            Some([b'+', results @ ..]) => results.to_vec(),
            _ => {
                // An error of the server: the call has changed nothing, and is made again.
                let problem = reply.problem();
                if let Some(flight) = &mut self.flight {
                    flight.sent = None;
                }
                return self.fail(now, &problem);
            }
        };
        let (Some(member), Some(flight)) = (&mut self.member, self.flight.take()) else {
            return;
        };
        self.last_reply_ms = now;
        member.answered += 1;
        match &flight.contents {
            Contents::Activate => member.is_active = true,
            Contents::Publish {
                counts,
                seats,
                anonymous,
                is_audit,
            } => {
                for &(key, count) in counts {
                    self.column.confirm_all(key, count);
                }
                self.column.seats.told = *seats;
                self.column.anonymous.told = *anonymous;
                let found = std::str::from_utf8(&results).unwrap_or_default();
                let mut found = found.split(' ').map(|text| text.parse().unwrap_or(0));
                let (differing, over) = (found.next().unwrap_or(0), found.next().unwrap_or(0));
                if *is_audit && differing > 0 {
                    self.counts.drift += differing;
                    self.notices.push(Notice::Drift(differing));
                }
                if over > 0 {
                    self.notices.push(Notice::Over(self.over, over));
                }
            }
            Contents::Batch {
                releases,
                seats,
                anonymous,
                asked,
                ..
            } => {
                for &(key, count) in releases {
                    self.column.confirm_released(key, count);
                }
                self.column.seats.told -= (*seats).min(self.column.seats.told);
                self.column.anonymous.told -= (*anonymous).min(self.column.anonymous.told);
                let (codes, waits) = results.split_at(asked.len().min(results.len()));
                let mut waits = waits.chunks_exact(3);
                for (one, &result) in asked.iter().zip(codes) {
                    let mut code = i32::from(result) - i32::from(b'0');
                    if code == IP_RATE || code == USER_RATE {
                        let wait = waits.next().unwrap_or(&[0, 0, 1]);
                        let ms = i32::from_be_bytes([0, wait[0], wait[1], wait[2]]);
                        code += CODES * ms.clamp(1, i32::MAX / CODES - 1);
                    }
                    self.decided(now, one, code);
                }
            }
        }
        // Tickets are settled by `decided`; the keys of the call are free.
        for key in flight.contents.kept() {
            self.column.leave(key);
        }
        self.replace_waiting(now);
        if self.has_news() {
            self.release_ms
                .get_or_insert(now + self.settings.release_delay_ms);
        }
    }

    /// Takes the server's decision on one admission.
    fn decided(&mut self, now: f64, one: &Asked, code: i32) {
        if one.ticket == 0 {
            return self.decided_ahead(now, code);
        }
        if one.flags & LOOK != 0 {
            return self.looked(one.ticket, code);
        }
        // A newcomer that waits has its seat.
        let is_taking = code == TAKING;
        let is_granted = code == GRANTED || is_taking;
        if !is_granted {
            self.note_refusal(now, one, code);
        }
        let Some(at) = self.tickets.find(one.ticket) else {
            return;
        };
        // Seats that were asked for ahead may have filled the total: they are for such a client.
        if code == i32::from(reject_cache::TOTAL) && self.gives_ahead(at) {
            self.counts.granted += 1;
            let port = self.tickets[at].port;
            self.answers.push(Answer {
                port,
                ticket: one.ticket,
                code: GRANTED,
            });
            return;
        }
        let is_move = one.flags & MOVE != 0;
        let is_wanted = self.tickets[at].is_awaited;
        if is_granted {
            for key in one.keys.into_iter().flatten() {
                self.column.grant(key, is_wanted);
            }
            if !is_move {
                self.column.seats.told += 1;
            }
            if one.keys[3].is_some() {
                self.column.anonymous.told += 1;
            }
        }
        let mut code = code;
        if is_wanted && is_taking {
            self.tickets[at].is_held = true;
            self.column.seats.held += 1;
            self.note_held(at);
            return self.await_takeover(now, one.ticket, at);
        }
        if is_wanted {
            self.tickets[at].is_awaited = false;
            let port = self.tickets[at].port;
            if is_granted {
                self.counts.granted += 1;
                self.tickets[at].is_held = true;
                if !is_move {
                    self.column.seats.held += 1;
                }
                if one.keys[3].is_some() {
                    self.column.anonymous.held += 1;
                }
                self.note_held(at);
                code = self.settle_move(at, true);
            } else {
                self.counts.refused += 1;
            }
            self.answers.push(Answer {
                port,
                ticket: one.ticket,
                code,
            });
        }
        // A seat that the policy gave stays, whatever the server says; one that nobody wants any more
        // is released by the difference of the counts.
        if self.tickets[at].is_held {
            self.tickets[at].place = Place::Held;
        } else {
            self.dispose(at);
        }
    }
}
