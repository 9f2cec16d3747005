//! Members without clients, each with its own core, over one connection: half of them stop at one
//! moment. Prints the time until the server counts the others only, in leases. A part of
//! `npm run cluster:bench`.
//!
//! Arguments: the server's port, members, lease in ms.
#![expect(clippy::print_stdout, reason = "its output is what the command reads")]
#![expect(
    clippy::disallowed_methods,
    reason = "it measures a real server in real time"
)]

use portcullis::cluster::{
    Action, ClusterLimits, Command, Core, Policy, Reply, SCRIPTS, Script, Settings, State,
};
use redis::Value;
use std::error::Error;
use std::time::{Duration, Instant};

const META: &str = "{pc2:swarm}:m";
/// Longest time in which the members come up, or are declared dead, in leases.
const LEASES_MAX: f64 = 20.0;

struct Server {
    connection: redis::Connection,
    hashes: Vec<String>,
}

fn reply_of(value: Value) -> Reply {
    match value {
        Value::Int(number) => Reply::Number(number),
        Value::BulkString(text) => Reply::Text(text),
        Value::SimpleString(text) => Reply::Text(text.into_bytes()),
        Value::Array(list) => Reply::List(list.into_iter().map(reply_of).collect()),
        other => Reply::Failed(format!("{other:?}")),
    }
}

impl Server {
    fn open(port: &str) -> Result<Self, Box<dyn Error>> {
        let client = redis::Client::open(format!("redis://127.0.0.1:{port}"))?;
        let mut connection = client.get_connection()?;
        let mut hashes = Vec::new();
        for script in SCRIPTS {
            let mut load = redis::cmd("SCRIPT");
            load.arg("LOAD").arg(script.text());
            hashes.push(load.query(&mut connection)?);
        }
        Ok(Self { connection, hashes })
    }

    fn run(&mut self, command: &Command) -> Reply {
        let at = SCRIPTS.iter().position(|&script| script == command.script);
        let mut call = redis::cmd("EVALSHA");
        call.arg(&self.hashes[at.unwrap_or_default()])
            .arg(command.keys.len());
        for part in command.keys.iter().chain(&command.args) {
            call.arg(part.as_slice());
        }
        match call.query::<Value>(&mut self.connection) {
            Ok(value) => reply_of(value),
            Err(error) => Reply::Failed(error.to_string()),
        }
    }

    /// Returns the members that the server counts.
    fn live(&mut self) -> Result<u32, Box<dyn Error>> {
        let mut get = redis::cmd("HGET");
        let bits: Vec<u8> = get.arg(META).arg("live").query(&mut self.connection)?;
        Ok(bits.iter().map(|byte| byte.count_ones()).sum())
    }
}

fn settings(at: usize, lease_ms: f64) -> Settings {
    Settings {
        name: "swarm".into(),
        prefix: "pc".into(),
        node: format!("swarm{at}"),
        node_name: format!("swarm{at}"),
        lease_ms,
        beat_ms: lease_ms / 5.0,
        admit_timeout_ms: lease_ms / 10.0,
        expected_members: 0,
        revision: 0,
        limits: ClusterLimits {
            total: u32::MAX,
            prefix: u32::MAX,
            address: u32::MAX,
            user: u32::MAX,
            anonymous: u32::MAX,
            anonymous_address: u32::MAX,
            unknown: u32::MAX,
            ip_rate: [0.0; 2],
            user_rate: [0.0; 2],
        },
        policy: Policy::Closed,
        batch_max: 256,
        reject_cache_ms: 100.0,
        release_delay_ms: 20.0,
        lease_total: 0,
        closes_oldest: false,
        keeps_names: false,
        entropy: [at as u64 + 1, at as u64 + 7, 3, 4],
    }
}

/// Serves members until `is_over` says so; returns the time, ms.
fn serve(
    server: &mut Server,
    members: &mut [Core],
    started: Instant,
    lease_ms: f64,
    mut is_over: impl FnMut(&mut Server, &[Core]) -> Result<bool, Box<dyn Error>>,
) -> Result<f64, Box<dyn Error>> {
    let from = Instant::now();
    loop {
        for member in members.iter_mut() {
            let now = started.elapsed().as_secs_f64() * 1e3;
            // Work that is due by a reply is done with the next look, some ms later.
            for action in member.poll(now) {
                if let Action::Call(number, command) = action {
                    // Chores of one member only: they clean buckets, which are empty here.
                    let reply = if command.script == Script::Walk {
                        Reply::Text(b"+".to_vec())
                    } else {
                        server.run(&command)
                    };
                    member.replied(started.elapsed().as_secs_f64() * 1e3, number, reply);
                }
            }
        }
        let passed = from.elapsed().as_secs_f64() * 1e3;
        if is_over(server, members)? {
            return Ok(passed);
        }
        if passed > lease_ms * LEASES_MAX {
            return Err(format!("not within {LEASES_MAX} leases").into());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut given = std::env::args().skip(1);
    let port = given.next().unwrap_or_default();
    let count: usize = given.next().unwrap_or_default().parse()?;
    let lease_ms: f64 = given.next().unwrap_or_default().parse()?;
    let mut server = Server::open(&port)?;
    let started = Instant::now();
    let mut members: Vec<Core> = (0..count)
        .map(|at| {
            let mut core = Core::new(settings(at, lease_ms), 0.0);
            core.connected(0.0, "run");
            core
        })
        .collect();
    let all_up = |_: &mut Server, members: &[Core]| {
        Ok(members.iter().all(|member| member.state() == State::Up))
    };
    serve(&mut server, &mut members, started, lease_ms, all_up)?;
    // A lease of peace: observers know every beat before some stop.
    let peace = Instant::now();
    serve(&mut server, &mut members, started, lease_ms, |_, _| {
        Ok(peace.elapsed().as_secs_f64() * 1e3 > lease_ms)
    })?;
    let rest = count / 2;
    members.truncate(rest);
    let ms = serve(&mut server, &mut members, started, lease_ms, |server, _| {
        Ok(server.live()? as usize <= rest)
    })?;
    println!("{{\"leases\":{},\"ms\":{ms}}}", ms / lease_ms);
    Ok(())
}
