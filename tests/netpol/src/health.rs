//! `/healthz` for the script that starts the cluster.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// More than any request for a health check has.
const MAX_REQUEST: usize = 4096;
const TIMEOUT: Duration = Duration::from_secs(2);

/// Whether the policies of the cluster are in force.
#[derive(Debug, Clone, Default)]
pub struct Health(Arc<AtomicBool>);

impl Health {
    /// Tells it.
    pub fn set(&self, in_force: bool) {
        self.0.store(in_force, Ordering::Release);
    }

    fn is_in_force(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// Listens before it returns, then serves until the task is aborted. Gives the address it got.
pub async fn serve(address: SocketAddr, health: Health) -> Result<(SocketAddr, JoinHandle<()>)> {
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}"))?;
    let bound = listener.local_addr()?;
    let task = tokio::spawn(async move {
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                // Out of descriptors, most likely: do not spin.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let health = health.clone();
            tokio::spawn(async move {
                // A client that goes away or dawdles has itself to blame.
                drop(timeout(TIMEOUT, answer(stream, &health)).await);
            });
        }
    });
    Ok((bound, task))
}

async fn answer(mut stream: TcpStream, health: &Health) -> std::io::Result<()> {
    let mut request = Vec::new();
    let mut buffer = [0; 512];
    // Read to the end of the head, or closing would reset the connection under the client.
    while !request.windows(4).any(|w| w == b"\r\n\r\n") {
        let read = stream.read(&mut buffer).await?;
        if read == 0 || request.len() + read > MAX_REQUEST {
            return Ok(());
        }
        request.extend(buffer.iter().take(read));
    }
    let (status, body) = if !request.starts_with(b"GET /healthz ") {
        ("404 Not Found", "only /healthz is here\n")
    } else if health.is_in_force() {
        ("200 OK", "ok\n")
    } else {
        ("503 Service Unavailable", "policies are not in force\n")
    };
    let length = body.len();
    let response = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    stream.write_all(response.as_bytes()).await?;
    stream.shutdown().await
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn get(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).await.unwrap();
        response
    }

    #[tokio::test]
    async fn tells_what_it_was_told() {
        let health = Health::default();
        let local = SocketAddr::from(([127, 0, 0, 1], 0));
        let (address, task) = serve(local, health.clone()).await.unwrap();
        let request = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";

        assert!(get(address, request).await.starts_with("HTTP/1.1 503 "));
        health.set(true);
        let response = get(address, request).await;
        assert!(response.starts_with("HTTP/1.1 200 ") && response.ends_with("\r\n\r\nok\n"));
        health.set(false);
        assert!(get(address, request).await.starts_with("HTTP/1.1 503 "));

        let other = "GET /healthzz HTTP/1.1\r\n\r\n";
        assert!(get(address, other).await.starts_with("HTTP/1.1 404 "));
        task.abort();
    }

    #[tokio::test]
    async fn an_endless_request_is_cut() {
        let local = SocketAddr::from(([127, 0, 0, 1], 0));
        let (address, task) = serve(local, Health::default()).await.unwrap();
        let mut stream = TcpStream::connect(address).await.unwrap();
        // Enough to pass the limit; the other side may close while it is being written.
        drop(stream.write_all(&[b'x'; 2 * MAX_REQUEST]).await);
        let mut response = Vec::new();
        drop(stream.read_to_end(&mut response).await);
        assert_eq!(response, b"");
        task.abort();
    }
}
