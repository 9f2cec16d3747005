//! The registry of the watcher: a thread leaves under the lock before its memory goes.

use loom::cell::UnsafeCell;
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

/// Memory of a JavaScript thread. Loom fails the model if an access and the end overlap.
struct Memory {
    cell: UnsafeCell<u32>,
    is_alive: UnsafeCell<bool>,
}

impl Memory {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            cell: UnsafeCell::new(0),
            is_alive: UnsafeCell::new(true),
        })
    }

    /// The watcher's access, with the registry locked.
    fn observe(&self) {
        // SAFETY: loom checks that no other access overlaps.
        self.is_alive
            .with(|alive| assert!(unsafe { *alive }, "memory is accessed after its end"));
        // SAFETY: as above.
        self.cell.with_mut(|cell| unsafe { *cell += 1 });
    }

    /// The end of the memory: JavaScript may use it for something else from then on.
    fn end(&self) {
        // SAFETY: loom checks that no other access overlaps.
        self.is_alive.with_mut(|alive| unsafe { *alive = false });
    }
}

struct Watched {
    id: usize,
    memory: Arc<Memory>,
    log: Option<u32>,
}

#[derive(Default)]
struct State {
    threads: Vec<Watched>,
    is_running: bool,
}

struct Registry {
    state: Mutex<State>,
    changed: Condvar,
}

impl Registry {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State::default()),
            changed: Condvar::new(),
        })
    }

    fn join(&self, id: usize, memory: &Arc<Memory>) {
        let mut state = self.state.lock().expect("not poisoned");
        state.is_running = true;
        state.threads.push(Watched {
            id,
            memory: Arc::clone(memory),
            log: Some(0),
        });
        self.changed.notify_all();
    }

    fn leave(&self, id: usize) {
        let mut state = self.state.lock().expect("not poisoned");
        state.threads.retain(|thread| thread.id != id);
        self.changed.notify_all();
    }

    /// One turn of the watcher, as `run` and `write`: it observes all threads under the lock, then
    /// writes a line with the lock released, and puts the log back if its thread is still there.
    /// Returns false once no thread is left.
    fn turn(&self) -> bool {
        let mut state = self.state.lock().expect("not poisoned");
        for thread in &state.threads {
            thread.memory.observe();
        }
        let Some(first) = state.threads.first_mut() else {
            state.is_running = false;
            self.changed.notify_all();
            return false;
        };
        let (id, log) = (first.id, first.log.take());
        drop(state);
        let log = log.map(|lines| lines + 1);
        let mut state = self.state.lock().expect("not poisoned");
        if let Some(thread) = state.threads.iter_mut().find(|thread| thread.id == id) {
            thread.log = log;
        }
        true
    }
}

#[test]
fn memory_is_never_accessed_after_its_thread_has_left() {
    loom::model(|| {
        let registry = Registry::new();
        let memory = Memory::new();
        registry.join(1, &memory);
        let watching = Arc::clone(&registry);
        let watcher = thread::spawn(move || {
            while watching.turn() {
                thread::yield_now();
            }
        });
        registry.leave(1);
        memory.end();
        watcher.join().expect("no failed check");
        assert!(!registry.state.lock().expect("not poisoned").is_running);
    });
}

#[test]
fn two_threads_leave_while_the_watcher_writes() {
    let mut model = loom::model::Builder::new();
    // All orders with at most three preemptions; without a bound, the model takes minutes.
    model.preemption_bound = Some(3);
    model.check(|| {
        let registry = Registry::new();
        let memories = [Memory::new(), Memory::new()];
        for (id, memory) in memories.iter().enumerate() {
            registry.join(id, memory);
        }
        let leaving = Arc::clone(&registry);
        let [first, second] = memories;
        let worker = thread::spawn(move || {
            leaving.leave(0);
            first.end();
        });
        registry.turn();
        registry.leave(1);
        second.end();
        worker.join().expect("no failed check");
        assert!(!registry.turn());
    });
}

#[test]
fn the_last_thread_to_leave_sees_the_end_of_the_watcher() {
    loom::model(|| {
        let registry = Registry::new();
        let memory = Memory::new();
        registry.join(1, &memory);
        let watching = Arc::clone(&registry);
        let watcher = thread::spawn(move || {
            while watching.turn() {
                thread::yield_now();
            }
        });
        registry.leave(1);
        memory.end();
        // As `wait_for_end`, without its timeout: no notification is lost.
        let mut state = registry.state.lock().expect("not poisoned");
        while state.is_running {
            state = registry.changed.wait(state).expect("not poisoned");
        }
        drop(state);
        watcher.join().expect("no failed check");
    });
}
