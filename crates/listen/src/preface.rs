//! Which version of HTTP a connection speaks, from its first bytes. hyper's own way of finding out waits for ever for the
//! rest of a preface that begins as HTTP/2's does.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

/// What a client of HTTP/2 sends first (RFC 9113, section 3.4).
const HTTP2_PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HttpVersion {
    Http1,
    Http2,
}

/// Reads until it is clear which version the peer speaks. `None` if the peer went away without a word.
pub(crate) async fn read_version<S: AsyncRead + Unpin>(
    mut stream: S,
) -> io::Result<Option<(HttpVersion, Replayed<S>)>> {
    let mut first = [0; HTTP2_PREFACE.len()];
    let mut length = 0;
    while length < first.len() {
        let more = stream.read(&mut first[length..]).await?;
        if more == 0 && length == 0 {
            return Ok(None);
        }
        length += more;
        // A peer that ended in the middle of the preface is left to HTTP/1, which answers that it is none.
        if more == 0 || first[..length] != HTTP2_PREFACE[..length] {
            break;
        }
    }
    let version = if first == *HTTP2_PREFACE { HttpVersion::Http2 } else { HttpVersion::Http1 };
    Ok(Some((version, Replayed { read_before: Bytes::copy_from_slice(&first[..length]), stream })))
}

/// A stream whose first bytes were read already and are read again.
pub(crate) struct Replayed<S> {
    read_before: Bytes,
    stream: S,
}

impl<S: AsyncRead + Unpin> AsyncRead for Replayed<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.read_before.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, into);
        }
        let length = self.read_before.len().min(into.remaining());
        into.put_slice(&self.read_before.split_to(length));
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Replayed<S> {
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
    async fn the_version_is_read_and_nothing_is_lost() {
        let http2 = [HTTP2_PREFACE.as_slice(), b"more"].concat();
        let table: [(&[u8], Option<HttpVersion>); 7] = [
            (b"", None),
            (b"GET / HTTP/1.1\r\n\r\n", Some(HttpVersion::Http1)),
            (b"P", Some(HttpVersion::Http1)),
            (b"POST / HTTP/1.1\r\n\r\n", Some(HttpVersion::Http1)),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r", Some(HttpVersion::Http1)),
            (b"PRI * HTTP/1.1\r\n\r\nSM\r\n\r\n", Some(HttpVersion::Http1)),
            (&http2, Some(HttpVersion::Http2)),
        ];
        for (sent, expected) in table {
            // A pipe of one byte: the preface comes in as many pieces as it can.
            let (near, mut far) = duplex(1);
            let sender = async move {
                far.write_all(sent).await.expect("the pipe is open");
                drop(far);
            };
            let reader = async {
                let Some((version, mut stream)) = read_version(near).await.expect("a pipe can be read") else {
                    return (None, Vec::new());
                };
                let mut all = Vec::new();
                stream.read_to_end(&mut all).await.expect("a pipe can be read");
                (Some(version), all)
            };
            let ((), (version, all)) = tokio::join!(sender, reader);
            assert_eq!(version, expected, "{sent:?}");
            assert_eq!(all, sent);
        }
    }
}
