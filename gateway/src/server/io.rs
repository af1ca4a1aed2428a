//! The socket as HTTP sees it: what passes through is noted for the sweep and looked at for smuggled requests.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::server::bare::Bare;
use crate::server::framing::Scan;
use crate::server::registry::Link;

/// A stream under watch.
pub(crate) struct Watched<T> {
    stream: T,
    link: Arc<Link>,
    /// Absent on HTTP/2, whose framing leaves nothing to disagree about.
    scan: Option<Scan>,
    /// Absent on HTTP/2, where no answer is written as text.
    bare: Option<Bare>,
    /// What is left of a bare answer that has been dressed.
    dressed: Option<BytesMut>,
    /// Our side is closed: what still comes is thrown away.
    closed: bool,
    discarded: usize,
}

/// What a client may still send after we have said our last word.
const LINGER_BYTES: usize = 4 << 20;

impl<T> Watched<T> {
    /// HTTP/1: looked at in both directions.
    pub(crate) fn text(stream: T, link: Arc<Link>, scan: Scan, bare: Bare) -> Self {
        Self::new(stream, link, Some(scan), Some(bare))
    }

    /// HTTP/2.
    pub(crate) fn framed(stream: T, link: Arc<Link>) -> Self {
        Self::new(stream, link, None, None)
    }

    fn new(stream: T, link: Arc<Link>, scan: Option<Scan>, bare: Option<Bare>) -> Self {
        Self {
            stream,
            link,
            scan,
            bare,
            dressed: None,
            closed: false,
            discarded: 0,
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let this = &mut *self;
        let result = Pin::new(&mut this.stream).poll_read(cx, buf);
        if let Some(fresh) = buf.filled().get(before..)
            && !fresh.is_empty()
        {
            this.link.received();
            if let Some(scan) = &mut this.scan {
                scan.feed(fresh);
            }
        }
        result
    }
}

impl<T: AsyncWrite + Unpin> Watched<T> {
    /// Writes `buf`, or what stands in for it: then all of that, before any of `buf` counts as written.
    fn write_one(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.dressed.is_none() {
            self.dressed = self.bare.as_ref().and_then(|bare| bare.dressed(buf));
        }
        let Some(rest) = &mut self.dressed else {
            return Pin::new(&mut self.stream).poll_write(cx, buf);
        };
        while rest.has_remaining() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, rest))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            rest.advance(written);
        }
        self.dressed = None;
        Poll::Ready(Ok(buf.len()))
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Watched<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = self.write_one(cx, buf);
        self.link.wrote(result.is_ready());
        result
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = match bufs {
            [only] => self.write_one(cx, only),
            _ => Pin::new(&mut self.stream).poll_write_vectored(cx, bufs),
        };
        self.link.wrote(result.is_ready());
        result
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_flush(cx);
        self.link.wrote(result.is_ready());
        result
    }

    /// Closes our side, then waits for the client to close its own, within bounds. Closing a socket with unread bytes
    /// in it resets the connection, and the reset overtakes the answer: a client that is still sending a body which
    /// is too large would never learn that it is.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !this.closed {
            let result = ready!(Pin::new(&mut this.stream).poll_shutdown(cx));
            this.link.lingers();
            this.closed = true;
            if result.is_err() {
                return Poll::Ready(result);
            }
        }
        let mut scratch = [0; 4096];
        while this.discarded < LINGER_BYTES {
            let mut buf = ReadBuf::new(&mut scratch);
            let read = ready!(Pin::new(&mut this.stream).poll_read(cx, &mut buf));
            if read.is_err() || buf.filled().is_empty() {
                break;
            }
            this.discarded += buf.filled().len();
        }
        Poll::Ready(Ok(()))
    }
}
