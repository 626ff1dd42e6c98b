//! Which version of HTTP a connection speaks, told by its first bytes within a time.
//!
//! The HTTP library tells by itself, but waits for ever for the rest of a preface that has begun.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::time::timeout;

/// What a client of HTTP/2 sends first: RFC 9113, section 3.4.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    Http1,
    Http2,
}

/// Reads what tells the version; gives it with the stream as if nothing had been read. `None` if the peer said too little in
/// that time, or went away.
pub(crate) async fn version<S: AsyncRead + Unpin>(mut stream: S, within: Duration) -> Option<(Version, Rewound<S>)> {
    let mut read = Vec::with_capacity(PREFACE.len());
    let told = async {
        loop {
            let mut some = [0; PREFACE.len()];
            let left = PREFACE.len() - read.len();
            let count = stream.read(&mut some[..left]).await.ok().filter(|count| *count > 0)?;
            read.extend_from_slice(&some[..count]);
            if !PREFACE.starts_with(&read) {
                return Some(Version::Http1);
            }
            if read.len() == PREFACE.len() {
                return Some(Version::Http2);
            }
        }
    };
    let version = timeout(within, told).await.ok()??;
    Some((version, Rewound { first: read, given: 0, stream }))
}

/// A stream of which some bytes were read already: they come again first.
pub(crate) struct Rewound<S> {
    first: Vec<u8>,
    given: usize,
    stream: S,
}

impl<S> Rewound<S> {
    pub(crate) fn get_ref(&self) -> &S {
        &self.stream
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Rewound<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.given < self.first.len() {
            let count = into.remaining().min(self.first.len() - self.given);
            into.put_slice(&self.first[self.given..self.given + count]);
            self.given += count;
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Rewound<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn tells_versions_and_gives_up_on_who_says_too_little() {
        let cases: [(&[&[u8]], Option<Version>); 7] = [
            (&[], None),
            (&[b"P"], None),
            (&[b"PRI * HT", b"TP/2.0\r\n"], None),
            (&[b"PRI * HT", b"TP/2.0\r\n\r\nSM\r\n\r\nand frames"], Some(Version::Http2)),
            (&[b"G"], Some(Version::Http1)),
            (&[b"P", b"OST / HTTP/1.1\r\n"], Some(Version::Http1)),
            (&[b"\0"], Some(Version::Http1)),
        ];
        for (sent, expected) in cases {
            let (mut near, far) = duplex(1024);
            let all: Vec<u8> = sent.concat();
            let parts: Vec<Vec<u8>> = sent.iter().map(|part| part.to_vec()).collect();
            let sender = tokio::spawn(async move {
                for part in parts {
                    near.write_all(&part).await.expect("there is room");
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                near
            });
            let told = version(far, Duration::from_millis(300)).await;
            assert_eq!(told.as_ref().map(|(version, _)| *version), expected, "{sent:?}");
            drop(sender.await.expect("it ends"));
            if let Some((_, mut stream)) = told {
                let mut read = Vec::new();
                stream.read_to_end(&mut read).await.expect("the rest can be read");
                assert_eq!(read, all);
            }
        }
    }
}
