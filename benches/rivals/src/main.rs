//! A broadcast server on tokio and tokio-tungstenite, as one would write it with care: two threads, one task a
//! direction and socket, each event encoded once and shared, everything that waits for a socket fed to it before it is
//! flushed. It knows no database and no permissions; who says who he is, is believed.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::{SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};
use tokio_tungstenite::{WebSocketStream, accept_async};

/// Frames that are fed to a socket before it is flushed.
const BATCH: usize = 256;

type Peers = Arc<Mutex<HashMap<u64, UnboundedSender<Utf8Bytes>>>>;
type Writer = futures_util::stream::SplitSink<WebSocketStream<TcpStream>, Message>;

fn main() {
    let ends = std::thread::Builder::new().spawn(|| {
        // Standard input closes when the parent has exited.
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
    ends.expect("a thread");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_io()
        .build()
        .expect("a runtime");
    runtime.block_on(serve());
}

async fn serve() {
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket
        .bind("127.0.0.1:0".parse().expect("an address"))
        .expect("a port");
    let listener: TcpListener = socket.listen(4096).expect("listen");
    println!("{}", listener.local_addr().expect("an address").port());
    std::io::stdout().flush().expect("standard output");
    let peers = Peers::default();
    let mut next = 0;
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let _ = stream.set_nodelay(true);
        next += 1;
        tokio::spawn(attend(next, stream, Arc::clone(&peers)));
    }
}

async fn attend(id: u64, stream: TcpStream, peers: Peers) {
    let Ok(socket) = accept_async(stream).await else {
        return;
    };
    let (writer, mut reader) = socket.split();
    let (sender, receiver) = unbounded_channel();
    let written = tokio::spawn(write(writer, receiver));
    let mut event = None;
    while let Some(Ok(message)) = reader.next().await {
        let Message::Text(text) = message else {
            if message.is_close() {
                break;
            }
            continue;
        };
        match &event {
            Some(event) => tell(&peers, id, event),
            None => {
                let agent = token(&text);
                event = Some(typing(agent));
                let answer = format!("{{\"type\":\"auth.ok\",\"agent_id\":{agent}}}");
                let _ = sender.send(answer.into());
                lock(&peers).insert(id, sender.clone());
            }
        }
    }
    lock(&peers).remove(&id);
    drop(sender);
    let _ = written.await;
}

fn tell(peers: &Peers, from: u64, event: &Utf8Bytes) {
    for (id, sender) in lock(peers).iter() {
        if *id != from {
            let _ = sender.send(event.clone());
        }
    }
}

async fn write(mut writer: Writer, mut receiver: UnboundedReceiver<Utf8Bytes>) {
    let mut batch = Vec::with_capacity(BATCH);
    while receiver.recv_many(&mut batch, BATCH).await > 0 {
        for text in batch.drain(..) {
            if writer.feed(Message::Text(text)).await.is_err() {
                return;
            }
        }
        if writer.flush().await.is_err() {
            return;
        }
    }
    let _ = writer.close().await;
}

fn lock(peers: &Peers) -> std::sync::MutexGuard<'_, HashMap<u64, UnboundedSender<Utf8Bytes>>> {
    peers.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The number that stands for a token.
fn token(text: &str) -> u64 {
    let digits = text.split_once("\"token\":\"").map_or("", |(_, rest)| rest);
    let end = digits.find('"').unwrap_or(0);
    digits[..end].parse().unwrap_or(0)
}

/// What the daemon would say.
fn typing(agent: u64) -> Utf8Bytes {
    format!(
        "{{\"type\":\"chat.typing\",\"scope\":\"channel\",\"channel_id\":50,\"thread_id\":null,\"agent_id\":{agent},\
         \"agent_name\":\"Agent {agent}\"}}"
    )
    .into()
}
