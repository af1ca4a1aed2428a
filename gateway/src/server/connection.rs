//! HTTP on one socket, from the handshake to the last byte.
//!
//! The path of a request costs what bare hyper costs: one atomic increment on a counter that only this connection
//! uses, two stores, and no allocation. Everything that watches the connection stands outside (see `registry`).

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::CONNECTION;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Version};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::server::bare::{Bare, Dress};
use crate::server::framing::{Ambiguity, Scan, is_plain};
use crate::server::io::Watched;
use crate::server::limits::ConnectionLimits;
use crate::server::proxy_protocol;
use crate::server::registry::{Entry, Link, Order, Orders};
use crate::server::streams::{Pieces, Streams};
use crate::server::tls::Transport;
use crate::telemetry::metrics::{CloseReason, ConnectionMetrics};

/// An error of any body.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What answers requests.
pub trait Handler: Clone + Send + Sync + 'static {
    /// The bodies of its answers.
    type Body: Body<Data = Bytes, Error: Into<BoxError>> + Send + Unpin + 'static;

    /// Answers one request. Dropping the future means that nobody waits for the answer any more.
    fn call(
        &self,
        conn: &ConnInfo,
        request: Request<Incoming>,
    ) -> impl Future<Output = Response<Self::Body>> + Send;

    /// Puts the headers on an answer that stand on all answers of this port, where another than [`call`](Self::call)
    /// gives it: to a request that cannot be read.
    fn dress(&self, _conn: &ConnInfo, _headers: &mut HeaderMap) {}

    /// What becomes of a connection from there. Asked once for each.
    fn arrival(&self, _peer: IpAddr) -> Arrival {
        Arrival::Direct
    }
}

/// How a connection begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// With TLS or HTTP.
    Direct,
    /// With a header that says for whom it is (PROXY protocol version 2); without one it is closed.
    Announced,
    /// It does not: it is closed at once.
    Refused,
}

/// What is known of a connection before its first request.
#[derive(Clone, Debug)]
pub struct ConnInfo {
    /// The other end of the socket: a client, or a proxy in front of it.
    pub peer: SocketAddr,
    /// Whom it is for: the peer, or whom a trusted proxy names (PROXY protocol). A client, or another proxy.
    pub source: SocketAddr,
    /// This end.
    pub local: SocketAddr,
    /// Absent on plaintext.
    pub tls: Option<TlsInfo>,
}

/// What the handshake settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TlsInfo {
    /// TLS 1.2 or 1.3.
    pub version: rustls::ProtocolVersion,
    /// HTTP/2, else HTTP/1.1.
    pub http2: bool,
}

/// How HTTP is spoken on the connections of one listener.
#[derive(Clone)]
pub(crate) struct Protocol {
    http1: http1::Builder,
    limits: ConnectionLimits,
}

impl Protocol {
    pub(crate) fn new(limits: &ConnectionLimits) -> Self {
        let header_bytes = limits.max_header_bytes;
        let mut http1 = http1::Builder::new();
        http1
            // The sweep keeps the header deadline, from the first byte on instead of from the last answer.
            .header_read_timeout(None)
            .max_header_size(usize::try_from(header_bytes).unwrap_or(usize::MAX))
            // Room for a head and what comes with it; bodies are read in pieces of at most this.
            .max_buf_size(usize::try_from(header_bytes.max(MIN_BUFFER)).unwrap_or(usize::MAX));
        Self {
            http1,
            limits: *limits,
        }
    }

    /// One for each connection: its streams are kept in step with its own place in the registry.
    fn http2(&self, streams: Streams) -> http2::Builder<Streams> {
        let limits = &self.limits;
        let mut http2 = http2::Builder::new(streams);
        http2
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits.max_streams)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(MAX_FRAME)
            .max_header_list_size(limits.max_header_bytes)
            .max_send_buf_size(SEND_BUFFER)
            // Streams that the client resets before we looked at them: more at once is the "rapid reset" flood.
            .max_pending_accept_reset_streams(20)
            .max_local_error_reset_streams(64)
            // Also what ends a client that begins a head and does not finish it: nothing else may come between the
            // frames of a head, so that it cannot answer.
            .keep_alive_interval(limits.deadlines.ping)
            .keep_alive_timeout(limits.deadlines.pong);
        http2
    }
}

/// Least read buffer of an HTTP/1 connection.
const MIN_BUFFER: u32 = 64 << 10;
/// HTTP/2: what a client may send on one stream before we read.
const STREAM_WINDOW: u32 = 128 << 10;
/// HTTP/2: the same for all streams of a connection.
const CONNECTION_WINDOW: u32 = 1 << 20;
/// HTTP/2: the protocol's least.
const MAX_FRAME: u32 = 16 << 10;
/// HTTP/2: what waits for a stream's client to read.
const SEND_BUFFER: usize = 256 << 10;

/// One accepted socket and what it needs.
pub(crate) struct Accepted<H> {
    pub(crate) stream: TcpStream,
    pub(crate) peer: SocketAddr,
    /// A header comes first that says whom it is for.
    pub(crate) announced: bool,
    pub(crate) local: SocketAddr,
    pub(crate) transport: Arc<Transport>,
    pub(crate) protocol: Arc<Protocol>,
    pub(crate) entry: Entry,
    pub(crate) handler: H,
    pub(crate) metrics: ConnectionMetrics,
}

impl<H: Handler> Accepted<H> {
    /// Runs the connection to its end.
    pub(crate) async fn run(mut self) {
        let link = Arc::clone(self.entry.link());
        let source = if self.announced {
            match self.announcement(&link).await {
                Some(source) => source,
                None => return,
            }
        } else {
            self.peer
        };
        match &*self.transport {
            Transport::Closed => {}
            Transport::Plaintext => {
                let info = ConnInfo {
                    peer: self.peer,
                    source,
                    local: self.local,
                    tls: None,
                };
                serve_http1(
                    &self.protocol,
                    self.stream,
                    link,
                    self.handler,
                    info,
                    &self.metrics,
                )
                .await;
            }
            Transport::Tls(acceptor) => {
                // Boxed: a handshake is large and short, the connection small and long.
                let handshake = Box::pin(acceptor.accept(self.stream));
                let stream = match until_aborted(&link, handshake).await {
                    Some(Ok(stream)) => stream,
                    Some(Err(err)) => {
                        tracing::debug!(peer = %self.peer, error = %err, "TLS handshake failed");
                        self.metrics.closed(CloseReason::Handshake);
                        return;
                    }
                    None => return,
                };
                let (_, session) = stream.get_ref();
                let http2 = session.alpn_protocol() == Some(b"h2");
                let info = ConnInfo {
                    peer: self.peer,
                    source,
                    local: self.local,
                    tls: Some(TlsInfo {
                        version: session
                            .protocol_version()
                            .unwrap_or(rustls::ProtocolVersion::TLSv1_2),
                        http2,
                    }),
                };
                if http2 {
                    serve_http2(&self.protocol, stream, link, self.handler, info, &self.metrics).await;
                } else {
                    serve_http1(&self.protocol, stream, link, self.handler, info, &self.metrics).await;
                }
            }
        }
    }
}

impl<H> Accepted<H> {
    /// Whom the connection is for, by the header that comes first. None: there is no such header.
    async fn announcement(&mut self, link: &Link) -> Option<SocketAddr> {
        // Boxed: it is large and short, the connection small and long.
        let header = Box::pin(proxy_protocol::read(&mut self.stream));
        match until_aborted(link, header).await? {
            Ok(source) => Some(source.unwrap_or(self.peer)),
            Err(err) => {
                tracing::debug!(peer = %self.peer, error = %err, "no PROXY protocol header");
                self.metrics.closed(CloseReason::ProxyHeader);
                None
            }
        }
    }
}

async fn serve_http1<T, H>(
    protocol: &Protocol,
    stream: T,
    link: Arc<Link>,
    handler: H,
    info: ConnInfo,
    metrics: &ConnectionMetrics,
) where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Handler,
{
    let ambiguity = Ambiguity::default();
    let scan = Scan::new(ambiguity.clone());
    let conn = Arc::new(Conn {
        handler,
        info,
        link: Arc::clone(&link),
        ambiguity,
    });
    let bare = Bare::new(Arc::clone(&conn) as Arc<dyn Dress>);
    let io = TokioIo::new(Watched::text(stream, Arc::clone(&link), scan, bare));
    let connection = protocol
        .http1
        .serve_connection(io, service_fn(move |request| answer(Arc::clone(&conn), request)));
    let result = obey(&link, Order::Finish, pin!(connection), |conn| {
        conn.graceful_shutdown();
    })
    .await;
    note_end(result, metrics);
}

async fn serve_http2<T, H>(
    protocol: &Protocol,
    stream: T,
    link: Arc<Link>,
    handler: H,
    info: ConnInfo,
    metrics: &ConnectionMetrics,
) where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Handler,
{
    let conn = Arc::new(Conn {
        handler,
        info,
        link: Arc::clone(&link),
        ambiguity: Ambiguity::default(),
    });
    link.is_framed();
    let io = TokioIo::new(Watched::framed(stream, Arc::clone(&link)));
    let streams = Streams::new(
        Arc::clone(&link),
        protocol.limits.deadlines.stalled_write,
        metrics.clone(),
    );
    let connection = protocol
        .http2(streams)
        .serve_connection(io, service_fn(move |request| answer(Arc::clone(&conn), request)));
    // HTTP/2 can be left without loss: what the client sent before it saw our GOAWAY is still answered.
    let result = obey(&link, Order::Leave, pin!(connection), |conn| {
        conn.graceful_shutdown();
    })
    .await;
    note_end(result, metrics);
}

fn note_end(result: Option<hyper::Result<()>>, metrics: &ConnectionMetrics) {
    if let Some(Err(err)) = result {
        let reason = if err.is_parse() {
            CloseReason::Malformed
        } else {
            CloseReason::Broken
        };
        metrics.closed(reason);
        tracing::debug!(error = %err, "connection ended");
    }
}

/// Polls `future` until it is done or the connection is told to abort.
async fn until_aborted<F: Future + Unpin>(link: &Link, mut future: F) -> Option<F::Output> {
    let mut orders = Orders::new(link);
    poll_fn(|cx| match Pin::new(&mut future).poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending if orders.latest(cx.waker()) == Order::Abort => Poll::Ready(None),
        Poll::Pending => Poll::Pending,
    })
    .await
}

/// Polls a connection to its end, and tells it once to close when the order reaches `graceful`. None: it was aborted.
async fn obey<C: Future>(
    link: &Link,
    graceful: Order,
    mut connection: Pin<&mut C>,
    close: impl Fn(Pin<&mut C>),
) -> Option<C::Output> {
    let mut orders = Orders::new(link);
    let mut told = false;
    poll_fn(|cx| {
        loop {
            // First, so that a request which has already arrived is seen before the connection counts as idle.
            if let Poll::Ready(output) = connection.as_mut().poll(cx) {
                return Poll::Ready(Some(output));
            }
            match orders.latest(cx.waker()) {
                Order::Abort => return Poll::Ready(None),
                order if order >= graceful && !told => {
                    told = true;
                    close(connection.as_mut());
                }
                Order::None | Order::Leave | Order::Finish => return Poll::Pending,
            }
        }
    })
    .await
}

/// One connection as its requests see it.
struct Conn<H> {
    handler: H,
    info: ConnInfo,
    link: Arc<Link>,
    ambiguity: Ambiguity,
}

impl<H: Handler> Dress for Conn<H> {
    fn dress(&self, headers: &mut HeaderMap) {
        self.handler.dress(&self.info, headers);
    }
}

/// A request in flight. Its end, however it comes, is noted.
struct Running<H> {
    conn: Arc<Conn<H>>,
}

impl<H> Drop for Running<H> {
    fn drop(&mut self) {
        self.conn.link.request_ended();
    }
}

fn answer<H: Handler>(
    conn: Arc<Conn<H>>,
    request: Request<Incoming>,
) -> impl Future<Output = Result<Response<Answer<H>>, Infallible>> + Send {
    // Not within the future: the head is complete now, whenever that is polled.
    conn.link.request_began();
    let running = Running { conn };
    async move {
        let conn = &*running.conn;
        let version = request.version();
        let mut response = if conn.ambiguity.found() || !is_plain(version, request.headers()) {
            let mut response = Response::new(None);
            *response.status_mut() = StatusCode::BAD_REQUEST;
            response
                .headers_mut()
                .insert(CONNECTION, HeaderValue::from_static("close"));
            conn.dress(response.headers_mut());
            response
        } else {
            conn.handler.call(&conn.info, request).await.map(Some)
        };
        if version <= Version::HTTP_11 && conn.link.order() >= Order::Leave {
            response
                .headers_mut()
                .insert(CONNECTION, HeaderValue::from_static("close"));
        }
        let pieces = (version == Version::HTTP_2).then(Pieces::default);
        Ok(response.map(|body| Answer {
            body,
            pieces,
            running,
        }))
    }
}

/// A body that knows when it has been handed over.
struct Answer<H: Handler> {
    /// None: empty.
    body: Option<H::Body>,
    /// What is left of a large piece. Only HTTP/2 needs small ones.
    pieces: Option<Pieces>,
    /// Dropped with the body: the request is in flight until then.
    #[expect(dead_code, reason = "acts by being dropped")]
    running: Running<H>,
}

impl<H: Handler> Body for Answer<H> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        let mut next = |cx: &mut Context<'_>| match &mut this.body {
            Some(body) => Pin::new(body)
                .poll_frame(cx)
                .map(|frame| frame.map(|frame| frame.map_err(Into::into))),
            None => Poll::Ready(None),
        };
        match &mut this.pieces {
            None => next(cx),
            Some(pieces) => pieces.poll(cx, next),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.rest() == 0 && self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = self
            .body
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), Body::size_hint);
        let rest = self.rest();
        if rest > 0 {
            // The upper end first: the lower one may not pass it.
            if let Some(upper) = hint.upper() {
                hint.set_upper(upper.saturating_add(rest));
            }
            hint.set_lower(hint.lower().saturating_add(rest));
        }
        hint
    }
}

impl<H: Handler> Answer<H> {
    fn rest(&self) -> u64 {
        self.pieces.as_ref().map_or(0, Pieces::rest)
    }
}
