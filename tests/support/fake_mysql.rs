//! A server that speaks as much of MySQL's protocol as a log-in takes, and answers it as a test wants: what MariaDB cannot
//! be made to say. Each connection gets the same answer.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// What a client is told that has named itself.
#[derive(Clone, Debug)]
pub enum Reply {
    /// Number, SQLSTATE and words.
    Error(u16, &'static str, &'static str),
    /// Number and words, in place of a greeting; there is no SQLSTATE then.
    NoGreeting(u16, &'static str),
    /// Use this plugin instead.
    Switch(&'static str),
    /// The whole password is wanted, as `caching_sha2_password` does it.
    WholePassword,
    /// The same; a client that asks for a key gets this one.
    Key(&'static [u8]),
}

pub struct FakeMysql {
    pub port: u16,
    heard: Arc<Mutex<Vec<Vec<u8>>>>,
}

/// LONG_PASSWORD, CONNECT_WITH_DB, PROTOCOL_41, TRANSACTIONS, SECURE_CONNECTION, PLUGIN_AUTH.
const CAPABILITIES: u32 = 0x1 | 0x8 | 0x200 | 0x2000 | 0x8000 | 0x8_0000;

impl FakeMysql {
    /// Listens at a port of this address; lives as long as the test process.
    pub fn start(address: &str, reply: Reply) -> FakeMysql {
        let listener = TcpListener::bind((address, 0)).expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let hearing = Arc::clone(&heard);
        let serving = move || {
            for stream in listener.incoming().flatten() {
                // A client that goes away has heard enough.
                let _ = serve(stream, &reply, &hearing);
            }
        };
        let thread = thread::Builder::new().name("fake-mysql".to_owned());
        thread.spawn(serving).expect("a thread for the server");
        FakeMysql { port, heard }
    }

    /// What clients have said after the reply.
    pub fn heard(&self) -> Vec<Vec<u8>> {
        self.heard.lock().expect("no panic under this lock").clone()
    }
}

fn serve(mut stream: TcpStream, reply: &Reply, heard: &Mutex<Vec<Vec<u8>>>) -> std::io::Result<()> {
    if let Reply::NoGreeting(code, words) = reply {
        let error = [b"\xff", &code.to_le_bytes()[..], words.as_bytes()].concat();
        return write(&mut stream, 0, &error);
    }
    let mut greeting = b"\x0a8.0.36\0\x01\0\0\0saltsalt\0".to_vec();
    greeting.extend((CAPABILITIES as u16).to_le_bytes());
    greeting.extend([45, 2, 0]);
    greeting.extend(((CAPABILITIES >> 16) as u16).to_le_bytes());
    greeting.push(21);
    greeting.extend([0; 10]);
    greeting.extend(b"saltsaltsalt\0caching_sha2_password\0");
    write(&mut stream, 0, &greeting)?;
    read(&mut stream)?;
    let answer = match reply {
        Reply::Error(code, state, words) => {
            let mut answer = vec![0xff];
            answer.extend(code.to_le_bytes());
            answer.extend(format!("#{state}{words}").as_bytes());
            answer
        }
        Reply::Switch(plugin) => [b"\xfe", plugin.as_bytes(), b"\0saltsaltsaltsaltsalt\0"].concat(),
        Reply::WholePassword | Reply::Key(_) | Reply::NoGreeting(..) => vec![1, 4],
    };
    write(&mut stream, 2, &answer)?;
    let said = read(&mut stream)?;
    let wants_key = said == [2];
    heard.lock().expect("no panic under this lock").push(said);
    if let (true, Reply::Key(key)) = (wants_key, reply) {
        write(&mut stream, 4, &[b"\x01", *key].concat())?;
        let said = read(&mut stream)?;
        heard.lock().expect("no panic under this lock").push(said);
    }
    Ok(())
}

fn write(stream: &mut TcpStream, number: u8, payload: &[u8]) -> std::io::Result<()> {
    let length = u32::try_from(payload.len())
        .expect("a short packet")
        .to_le_bytes();
    stream.write_all(&[&length[..3], &[number], payload].concat())
}

fn read(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut head = [0; 4];
    stream.read_exact(&mut head)?;
    let length = u32::from_le_bytes([head[0], head[1], head[2], 0]);
    let mut payload = vec![0; length as usize];
    stream.read_exact(&mut payload)?;
    Ok(payload)
}
