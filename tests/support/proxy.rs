//! A TCP proxy between the daemon and its database that can cut a connection around a COMMIT: either the packet reaches
//! the server and the answer is lost, or the packet never arrives. It can also delay or lose data, or cut connections.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use super::wait;

/// What happens to the next COMMIT that comes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// The server never hears of it.
    Before,
    /// The server carries it out, its answer is swallowed, and only then the connection goes.
    After,
    /// It is kept back until `let_go`, however long the daemon waits, and then reaches the server.
    Hold,
}

/// A proxy; it lives as long as the test process, its threads blocked in `accept` and `read`.
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    to: u16,
    next: Mutex<Option<Cut>>,
    cuts: AtomicU32,
    holding: Mutex<bool>,
    changed: Condvar,
    delay_ms: AtomicU64,
    losing: AtomicBool,
    forget_ms: AtomicU64,
    open: Mutex<HashMap<u64, Pair>>,
}

/// The two ends of one connection, to be cut from outside.
struct Pair {
    client: TcpStream,
    server: TcpStream,
    /// Something of it was lost, so it is good for nothing any more.
    is_maimed: bool,
    /// When something went over it last.
    used: Instant,
    is_forgotten: bool,
}

/// COM_QUERY and its text, behind the four bytes of a packet's header.
const COMMIT: &[u8] = b"\x03COMMIT";

impl Proxy {
    /// Listens for connections to the server at port `to` of this machine.
    pub fn start(to: u16) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port for the proxy");
        let port = listener.local_addr().expect("an address").port();
        let shared = Arc::new(Shared {
            to,
            next: Mutex::new(None),
            cuts: AtomicU32::new(0),
            holding: Mutex::new(false),
            changed: Condvar::new(),
            delay_ms: AtomicU64::new(0),
            losing: AtomicBool::new(false),
            forget_ms: AtomicU64::new(u64::MAX),
            open: Mutex::default(),
        });
        let accepting = Arc::clone(&shared);
        spawn("proxy", move || {
            for client in listener.incoming().flatten() {
                accepting.serve(client);
            }
        });
        Proxy { port, shared }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Cuts at the next COMMIT.
    pub fn cut_next(&self, cut: Cut) {
        *self.shared.next.lock().expect("no panic under this lock") = Some(cut);
    }

    /// Waits until a COMMIT is held.
    pub fn await_hold(&self) {
        let holding = self
            .shared
            .holding
            .lock()
            .expect("no panic under this lock");
        let (holding, _) = self
            .shared
            .changed
            .wait_timeout_while(holding, wait::LIMIT, |holding| !*holding)
            .expect("no panic under this lock");
        assert!(*holding, "no COMMIT came by");
    }

    /// Sends the COMMIT that is held on its way.
    pub fn let_go(&self) {
        *self
            .shared
            .holding
            .lock()
            .expect("no panic under this lock") = false;
        self.shared.changed.notify_all();
    }

    /// Holds back every packet for so long from now on, in both directions.
    pub fn delay(&self, time: Duration) {
        let ms = u64::try_from(time.as_millis()).expect("no geological times");
        self.shared.delay_ms.store(ms, Ordering::SeqCst);
    }

    /// Swallows whatever it is given from now on, or no longer.
    pub fn lose(&self, is_losing: bool) {
        self.shared.losing.store(is_losing, Ordering::SeqCst);
    }

    /// Forgets, as a middlebox does, each connection that has been silent for so long: what comes then is swallowed,
    /// and no side is told.
    pub fn forget_after(&self, silence: Duration) {
        let ms = u64::try_from(silence.as_millis()).expect("no geological times");
        self.shared.forget_ms.store(ms, Ordering::SeqCst);
    }

    /// Cuts the connections that something was lost of.
    pub fn cut_lossy(&self) {
        self.cut_those(|pair| pair.is_maimed);
    }

    /// Cuts all connections, in the middle of whatever they carry.
    pub fn cut_all(&self) {
        self.cut_those(|_| true);
    }

    fn cut_those(&self, wanted: impl Fn(&Pair) -> bool) {
        let open = self.shared.open();
        for pair in open.values().filter(|pair| wanted(pair)) {
            end(&pair.client, &pair.server);
        }
    }

    /// How often it has cut.
    pub fn cuts(&self) -> u32 {
        self.shared.cuts.load(Ordering::SeqCst)
    }
}

impl Shared {
    fn serve(self: &Arc<Self>, client: TcpStream) {
        // A server that is down: the client sees the end of its connection.
        let Ok(server) = TcpStream::connect(("127.0.0.1", self.to)) else {
            return;
        };
        for stream in [&client, &server] {
            stream.set_nodelay(true).expect("switch Nagle off");
        }
        let pair = |a: &TcpStream, b: &TcpStream| {
            (
                a.try_clone().expect("a second handle"),
                b.try_clone().expect("a second handle"),
            )
        };
        let muted = Arc::new(Mutex::new(false));
        let (from, to) = pair(&client, &server);
        let id = self.remember(pair(&client, &server));
        let (shared, mute) = (Arc::clone(self), Arc::clone(&muted));
        spawn("proxy-up", move || {
            shared.pass_up(id, &from, &to, &mute);
            shared.open().remove(&id);
        });
        let shared = Arc::clone(self);
        spawn("proxy-down", move || {
            shared.pass_down(id, &server, &client, &muted)
        });
    }

    fn open(&self) -> MutexGuard<'_, HashMap<u64, Pair>> {
        self.open.lock().expect("no panic under this lock")
    }

    fn remember(&self, (client, server): (TcpStream, TcpStream)) -> u64 {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let id = COUNT.fetch_add(1, Ordering::Relaxed);
        let pair = Pair {
            client,
            server,
            is_maimed: false,
            used: Instant::now(),
            is_forgotten: false,
        };
        self.open().insert(id, pair);
        id
    }

    /// What a bad line does to a packet of this connection; false where it swallows it.
    fn carries(&self, id: u64) -> bool {
        let ms = self.delay_ms.load(Ordering::SeqCst);
        if ms > 0 {
            wait::pass(Duration::from_millis(ms));
        }
        let is_losing = self.losing.load(Ordering::SeqCst);
        let timeout = Duration::from_millis(self.forget_ms.load(Ordering::SeqCst));
        let mut is_forgotten = false;
        if let Some(pair) = self.open().get_mut(&id) {
            pair.is_maimed |= is_losing;
            pair.is_forgotten |= pair.used.elapsed() >= timeout;
            pair.used = Instant::now();
            is_forgotten = pair.is_forgotten;
        }
        !is_losing && !is_forgotten
    }

    /// A client waits for each answer, so what is read at once is one packet, or the parts of one.
    fn pass_up(&self, id: u64, client: &TcpStream, server: &TcpStream, muted: &Mutex<bool>) {
        each_read(client, |bytes| {
            if !self.carries(id) {
                return true;
            }
            let is_commit = bytes.get(4..).is_some_and(|rest| rest.starts_with(COMMIT));
            let mut next = self.next.lock().expect("no panic under this lock");
            let cut = next.take_if(|_| is_commit);
            drop(next);
            match cut {
                None => write(server, bytes),
                Some(Cut::Hold) => {
                    self.hold();
                    write(server, bytes)
                }
                Some(Cut::Before) => {
                    self.cuts.fetch_add(1, Ordering::SeqCst);
                    false
                }
                Some(Cut::After) => {
                    *muted.lock().expect("no panic under this lock") = true;
                    self.cuts.fetch_add(1, Ordering::SeqCst);
                    // The other direction ends the connection once the server has answered.
                    write(server, bytes)
                }
            }
        });
        end(client, server);
    }
}

impl Shared {
    fn hold(&self) {
        let mut holding = self.holding.lock().expect("no panic under this lock");
        *holding = true;
        self.changed.notify_all();
        drop(
            self.changed
                .wait_while(holding, |holding| *holding)
                .expect("no panic under this lock"),
        );
    }

    fn pass_down(&self, id: u64, server: &TcpStream, client: &TcpStream, muted: &Mutex<bool>) {
        each_read(server, |bytes| {
            if !self.carries(id) {
                return true;
            }
            let muted = *muted.lock().expect("no panic under this lock");
            !muted && write(client, bytes)
        });
        end(client, server);
    }
}

/// Hands on what comes, until there is no more or `pass` says no.
fn each_read(mut from: &TcpStream, mut pass: impl FnMut(&[u8]) -> bool) {
    let mut buffer = [0; 64 * 1024];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return,
            Ok(count) if pass(&buffer[..count]) => {}
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            _ => return,
        }
    }
}

fn write(mut to: &TcpStream, bytes: &[u8]) -> bool {
    to.write_all(bytes).is_ok()
}

fn end(client: &TcpStream, server: &TcpStream) {
    for stream in [client, server] {
        // The other direction may have been quicker.
        let _ = stream.shutdown(Shutdown::Both);
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) {
    let thread = thread::Builder::new().name(name.to_owned()).spawn(run);
    thread.expect("a thread for the proxy");
}
