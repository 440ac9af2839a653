//! A TCP proxy between the daemon and its database that can be told to cut a connection around a COMMIT: the
//! packet then reaches the server and its answer is swallowed, or it never gets there.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

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
        let (shared, mute) = (Arc::clone(self), Arc::clone(&muted));
        spawn("proxy-up", move || shared.pass_up(&from, &to, &mute));
        spawn("proxy-down", move || pass_down(&server, &client, &muted));
    }

    /// A client waits for each answer, so what is read at once is one packet, or the parts of one.
    fn pass_up(&self, client: &TcpStream, server: &TcpStream, muted: &Mutex<bool>) {
        each_read(client, |bytes| {
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
}

fn pass_down(server: &TcpStream, client: &TcpStream, muted: &Mutex<bool>) {
    each_read(server, |bytes| {
        let muted = *muted.lock().expect("no panic under this lock");
        !muted && write(client, bytes)
    });
    end(client, server);
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
