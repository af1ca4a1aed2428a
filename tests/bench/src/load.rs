//! The load: connections that each send one call after the other and hold every answer against what it must be.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::call::{Era, Sender, Template};
use crate::wire;

/// No answer takes this long unless something hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// One client's credentials.
#[derive(Clone)]
pub(crate) struct Client {
    /// Its token.
    pub(crate) token: Rc<str>,
    /// Its session, sent in the session era only.
    pub(crate) session: Option<Rc<str>>,
}

/// One keep-alive connection to a proxy.
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    /// Connects.
    pub(crate) async fn open(to: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(to).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            buffer: Vec::with_capacity(8 << 10),
        })
    }

    /// Sends a request and reads the whole answer; gives where its body begins.
    async fn exchange(&mut self, request: &[u8]) -> anyhow::Result<usize> {
        self.buffer.clear();
        self.stream.write_all(request).await?;
        loop {
            let read = self.stream.read_buf(&mut self.buffer).await?;
            ensure!(read > 0, "the proxy closed the connection");
            if let Some(frame) = wire::frame(&self.buffer)? {
                ensure!(frame.end == self.buffer.len(), "bytes after the answer");
                return Ok(frame.head);
            }
        }
    }

    /// Sends a request whose answer must have this status; gives the answer.
    pub(crate) async fn request(&mut self, request: &str, status: u16) -> anyhow::Result<String> {
        tokio::time::timeout(PATIENCE, self.exchange(request.as_bytes()))
            .await
            .context("no answer")??;
        let answer = String::from_utf8_lossy(&self.buffer).into_owned();
        let found = wire::status(&self.buffer);
        ensure!(found == Some(status), "not {status}: {answer}");
        Ok(answer)
    }

    /// Sends a request whose answer is a stream, and reads its head. More may follow, which nobody reads.
    pub(crate) async fn listen(&mut self, request: &str) -> anyhow::Result<()> {
        let head = async {
            self.buffer.clear();
            self.stream.write_all(request.as_bytes()).await?;
            while wire::find(&self.buffer, b"\r\n\r\n").is_none() {
                ensure!(
                    self.stream.read_buf(&mut self.buffer).await? > 0,
                    "the proxy closed the connection"
                );
            }
            Ok(())
        };
        tokio::time::timeout(PATIENCE, head)
            .await
            .context("no answer")??;
        let answer = String::from_utf8_lossy(&self.buffer);
        let stream = wire::header(&self.buffer, b"content-type:") == Some("text/event-stream");
        ensure!(
            wire::status(&self.buffer) == Some(200) && stream,
            "no stream: {answer}"
        );
        Ok(())
    }

    /// One call, its answer checked to the byte.
    async fn call(
        &mut self,
        request: &mut Template,
        expected: &mut Template,
        number: u64,
    ) -> anyhow::Result<()> {
        let head = self.exchange(request.with(number)).await?;
        let (head, body) = self
            .buffer
            .split_at_checked(head)
            .context("a frame lies within its buffer")?;
        let right = head.starts_with(b"HTTP/1.1 200 ") && body == expected.with(number);
        ensure!(
            right,
            "call {number} was answered with\n{}\nin place of\n{}",
            String::from_utf8_lossy(&self.buffer),
            String::from_utf8_lossy(expected.with(number))
        );
        Ok(())
    }
}

/// Opens a session and gives its id.
pub(crate) async fn open_session(connection: &mut Connection, token: &str) -> anyhow::Result<Rc<str>> {
    let mut sender = Sender {
        era: Era::Session,
        token,
        session: None,
    };
    let answer = connection.request(&sender.initialize(), 200).await?;
    let id: Rc<str> = wire::header(answer.as_bytes(), b"mcp-session-id:")
        .context("initialize was answered without a session id")?
        .into();
    sender.session = Some(&id);
    connection.request(&sender.initialized(), 202).await?;
    Ok(id)
}

/// What the connections of a round share.
#[derive(Default)]
pub(crate) struct Progress {
    /// Calls answered, and answered right.
    calls: Cell<u64>,
    /// Numbers given out.
    next: Cell<u64>,
    measuring: Cell<bool>,
    ending: Cell<bool>,
    /// Nanoseconds of each call while measuring.
    latencies: RefCell<Vec<u32>>,
    failure: RefCell<Option<anyhow::Error>>,
}

/// A running load.
pub(crate) struct Load {
    progress: Rc<Progress>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    /// Opens `connections` connections and begins to call. Each takes the next of `clients`, over and over.
    pub(crate) async fn start(
        to: SocketAddr,
        era: Era,
        connections: usize,
        clients: &[Client],
    ) -> anyhow::Result<Self> {
        let progress = Rc::<Progress>::default();
        let mut open = Vec::new();
        for client in clients.iter().cycle().take(connections) {
            let sender = Sender {
                era,
                token: &client.token,
                session: client.session.as_deref().filter(|_| era == Era::Session),
            };
            open.push((Connection::open(to).await?, sender.tools_call()));
        }
        let tasks = open
            .into_iter()
            .map(|(connection, (request, expected))| {
                let progress = Rc::clone(&progress);
                tokio::task::spawn_local(async move {
                    if let Err(error) = work(connection, request, expected, &progress).await {
                        progress.ending.set(true);
                        progress.failure.borrow_mut().get_or_insert(error);
                    }
                })
            })
            .collect();
        Ok(Self { progress, tasks })
    }

    /// Calls answered so far.
    pub(crate) fn calls(&self) -> u64 {
        self.progress.calls.get()
    }

    /// From now on the time of each call is kept, or no longer.
    pub(crate) fn measure(&self, on: bool) {
        self.progress.measuring.set(on);
    }

    /// Lets every connection finish its call. Gives the number of all calls and the times of those measured, sorted.
    pub(crate) async fn finish(self) -> anyhow::Result<(u64, Vec<u32>)> {
        self.progress.ending.set(true);
        for task in self.tasks {
            tokio::time::timeout(PATIENCE, task)
                .await
                .context("a call hangs")?
                .context("a connection's task broke")?;
        }
        if let Some(error) = self.progress.failure.take() {
            return Err(error);
        }
        let mut latencies = self.progress.latencies.take();
        latencies.sort_unstable();
        Ok((self.progress.calls.get(), latencies))
    }
}

async fn work(
    mut connection: Connection,
    mut request: Template,
    mut expected: Template,
    progress: &Progress,
) -> anyhow::Result<()> {
    while !progress.ending.get() {
        let number = progress.next.get();
        progress.next.set(number + 1);
        let began = Instant::now();
        connection.call(&mut request, &mut expected, number).await?;
        progress.calls.set(progress.calls.get() + 1);
        if progress.measuring.get() {
            let took = u32::try_from(began.elapsed().as_nanos()).unwrap_or(u32::MAX);
            progress.latencies.borrow_mut().push(took);
        }
    }
    Ok(())
}
