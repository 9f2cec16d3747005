//! The word of totals: three threads take seats and give them back.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, Ordering::Relaxed};
use loom::thread;

#[path = "../../src/connections/totals.rs"]
#[allow(dead_code, reason = "the models use a part of the file")]
mod core;
use core::{Claim, Full, anonymous_of, given_back, total_of};

const TOTAL: u32 = 2;
const ANONYMOUS: u32 = 1;

/// Takes one seat, as `take_totals` of `src/connections/seats.rs` does.
fn take(word: &AtomicU64, is_anonymous: bool) -> Result<(), Full> {
    let claim = Claim {
        total: TOTAL,
        anonymous: ANONYMOUS,
        seats: 1,
        is_anonymous,
        replaces: false,
        replaces_anonymous: false,
    };
    word.fetch_update(Relaxed, Relaxed, |taken| {
        claim.refusal(taken).is_none().then(|| claim.taken(taken))
    })
    .map(drop)
    .map_err(|taken| claim.refusal(taken).expect("the limit that refused"))
}

fn give_back(word: &AtomicU64, seats: u64) {
    word.fetch_update(Relaxed, Relaxed, |taken| given_back(taken, seats))
        .expect("no fewer seats than were taken");
}

/// The limits and the order of the two counts hold in every state that a thread can see.
fn check(word: &AtomicU64) {
    let taken = word.load(Relaxed);
    assert!(total_of(taken) <= TOTAL);
    assert!(anonymous_of(taken) <= ANONYMOUS);
    assert!(anonymous_of(taken) <= total_of(taken));
}

#[test]
fn no_limit_is_passed_and_all_seats_come_back() {
    loom::model(|| {
        let word = Arc::new(AtomicU64::new(0));
        let threads = [true, true, false].map(|is_anonymous| {
            let word = Arc::clone(&word);
            thread::spawn(move || {
                if take(&word, is_anonymous).is_ok() {
                    check(&word);
                    give_back(&word, (1 << 32) + u64::from(is_anonymous));
                }
                check(&word);
            })
        });
        for thread in threads {
            thread.join().expect("no failed check");
        }
        assert_eq!(word.load(Relaxed), 0);
    });
}

#[test]
fn exactly_as_many_seats_are_taken_as_the_limits_allow() {
    loom::model(|| {
        let word = Arc::new(AtomicU64::new(0));
        let threads = [true, true, false].map(|is_anonymous| {
            let word = Arc::clone(&word);
            thread::spawn(move || take(&word, is_anonymous))
        });
        let outcomes = threads.map(|thread| thread.join().expect("no failed check"));
        // One of the two without a user, and the one with a user.
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 2);
        assert_eq!(outcomes[2], Ok(()));
        let taken = word.load(Relaxed);
        assert_eq!((total_of(taken), anonymous_of(taken)), (2, 1));
    });
}

#[test]
fn a_seat_that_is_given_to_a_user_leaves_no_state_beyond_the_limits() {
    loom::model(|| {
        let word = Arc::new(AtomicU64::new(0));
        take(&word, true).expect("the index is empty");
        // `rebind` moves the seat to a user, while another client without a user arrives.
        let rebinding = Arc::clone(&word);
        let rebind = thread::spawn(move || give_back(&rebinding, 1));
        let outcome = take(&word, true);
        check(&word);
        rebind.join().expect("no failed check");
        let taken = word.load(Relaxed);
        let expected = match outcome {
            Ok(()) => (2, 1),
            Err(full) => {
                assert_eq!(full, Full::Anonymous);
                (1, 0)
            }
        };
        assert_eq!((total_of(taken), anonymous_of(taken)), expected);
    });
}
