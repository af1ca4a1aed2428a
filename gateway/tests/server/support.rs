//! A listener with a handler that can be held, and clients that speak bytes.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use portcullis_gateway::server::connection::{BoxError, ConnInfo, Handler};
use portcullis_gateway::server::limits::{ConnectionLimits, Deadlines};
use portcullis_gateway::server::listener::{Listener, bind};
use portcullis_gateway::server::tls::{Transport, swappable};
use portcullis_gateway::telemetry::metrics::{Metrics, Port};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Longer than anything here should take, on a slow machine too.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Answers with the request's body; `/hold` waits for [`Echo::release`], `/stream` sends a piece, waits, sends another.
#[derive(Clone)]
pub(crate) struct Echo {
    pub(crate) calls: Arc<AtomicUsize>,
    pub(crate) dropped: Arc<AtomicUsize>,
    gate: Arc<Semaphore>,
}

impl Echo {
    fn new() -> Self {
        Self {
            calls: Arc::default(),
            dropped: Arc::default(),
            gate: Arc::new(Semaphore::new(0)),
        }
    }

    /// Lets one held request go on.
    pub(crate) fn release(&self) {
        self.gate.add_permits(1);
    }

    pub(crate) fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    /// Waits until so many requests have arrived.
    pub(crate) async fn called(&self, times: usize) {
        wait_for(|| self.calls() >= times).await;
    }
}

/// A body that gets its pieces from elsewhere.
pub(crate) struct Pieces(mpsc::Receiver<Bytes>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.0
            .poll_recv(cx)
            .map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }
}

/// Counts when it goes before it was disarmed.
struct Bomb(Option<Arc<AtomicUsize>>);

impl Drop for Bomb {
    fn drop(&mut self) {
        if let Some(count) = &self.0 {
            count.fetch_add(1, Ordering::SeqCst);
        }
    }
}

impl Handler for Echo {
    type Body = Pieces;

    async fn call(&self, _: &ConnInfo, request: Request<Incoming>) -> Response<Pieces> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let mut bomb = Bomb(Some(Arc::clone(&self.dropped)));
        let path = request.uri().path().to_owned();
        let (tx, rx) = mpsc::channel(4);
        match path.as_str() {
            "/hold" => {
                self.gate.acquire().await.unwrap().forget();
                tx.try_send(Bytes::from(vec![b'x'; 100_000])).unwrap();
            }
            "/stream" => {
                let gate = Arc::clone(&self.gate);
                tx.try_send(Bytes::from_static(b"first ")).unwrap();
                tokio::spawn(async move {
                    gate.acquire().await.unwrap().forget();
                    tx.send(Bytes::from_static(b"second")).await.unwrap();
                });
            }
            "/ignore" => tx.try_send(Bytes::from_static(b"ignored")).unwrap(),
            _ => {
                let Ok(body) = request.into_body().collect().await else {
                    let mut response = Response::new(Pieces(rx));
                    *response.status_mut() = http::StatusCode::BAD_REQUEST;
                    bomb.0 = None;
                    return response;
                };
                tx.try_send(body.to_bytes()).unwrap();
            }
        }
        bomb.0 = None;
        Response::new(Pieces(rx))
    }
}

/// Deadlines that no ordinary exchange comes near.
pub(crate) fn limits() -> ConnectionLimits {
    ConnectionLimits {
        deadlines: Deadlines {
            header: PATIENCE,
            idle: PATIENCE * 10,
            idle_pressed: PATIENCE * 10,
            stalled_pressed: PATIENCE * 10,
            stalled_write: PATIENCE,
            ping: PATIENCE,
            pong: PATIENCE,
        },
        max_connections: 100,
        max_header_bytes: 16 << 10,
        max_streams: 16,
    }
}

/// A header deadline that a test can wait for.
pub(crate) fn hasty() -> ConnectionLimits {
    let mut limits = limits();
    limits.deadlines.header = Duration::from_millis(300);
    limits
}

/// A running listener.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) echo: Echo,
    pub(crate) listener: Arc<Listener<Echo>>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) stop: CancellationToken,
    pub(crate) running: JoinHandle<()>,
}

pub(crate) fn serve(limits: ConnectionLimits) -> Server {
    serve_on(limits, Transport::Plaintext)
}

pub(crate) fn serve_on(limits: ConnectionLimits, transport: Transport) -> Server {
    let socket = bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    let echo = Echo::new();
    let metrics = Metrics::new(0.0);
    let listener = Listener::new(
        limits,
        swappable(transport),
        echo.clone(),
        metrics.connections(Port::Public),
    );
    let stop = CancellationToken::new();
    let running = tokio::spawn(Arc::clone(&listener).run(socket, stop.clone()));
    Server {
        address,
        echo,
        listener,
        metrics,
        stop,
        running,
    }
}

impl Server {
    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends bytes and returns all that comes until the server closes.
    pub(crate) async fn exchange(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut stream = self.connect().await;
        stream.write_all(bytes.as_ref()).await.unwrap();
        rest(&mut stream).await
    }

    /// The value of a line of the metrics.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let text = self.metrics.render();
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.map_or(0, |value| value.trim().parse().unwrap())
    }
}

/// All that comes until the other end closes, a reset included.
pub(crate) async fn rest(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let read = tokio::time::timeout(PATIENCE, stream.read(&mut buffer)).await;
        match read.expect("the server neither answers nor closes") {
            Ok(0) | Err(_) => break,
            Ok(count) => bytes.extend_from_slice(&buffer[..count]),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Reads until `end` has come.
pub(crate) async fn until(stream: &mut (impl AsyncRead + Unpin), end: &str) -> String {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    while !bytes.ends_with(end.as_bytes()) {
        let read = tokio::time::timeout(PATIENCE, stream.read(&mut buffer)).await;
        match read.expect("no answer") {
            Ok(count) if count > 0 => bytes.extend_from_slice(&buffer[..count]),
            closed => panic!("{closed:?} after {:?}", String::from_utf8_lossy(&bytes)),
        }
    }
    String::from_utf8(bytes).unwrap()
}

pub(crate) async fn wait_for(what: impl Fn() -> bool) {
    let waiting = async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting)
        .await
        .expect("it did not happen");
}

/// A POST with a body.
pub(crate) fn post(path: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}
