//! A plain TCP relay on a loopback port, which cuts connections where a test says.
//!
//! It stands between a client and the broker, so that a stream breaks at any byte while the broker runs, and so that the
//! client's address stays the same while the broker is dead.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// A relay that lives as long as the test program.
pub(crate) struct Proxy {
    port: u16,
    cuts_made: Arc<AtomicUsize>,
}

impl Proxy {
    /// Relays to `target`. The first connection is cut after so many bytes of answer as `cuts` says first, the second
    /// after the second number, and so on; later connections are left alone.
    ///
    /// Where a line end would be the last byte, one more is let through: a client that takes an id as soon as its line has
    /// arrived would lose the event when it is cut just before the blank line. No broker can help there.
    pub(crate) fn start(target: u16, cuts: &[usize]) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let cuts_made = Arc::new(AtomicUsize::new(0));
        let (made, cuts) = (Arc::clone(&cuts_made), cuts.to_vec());
        thread::spawn(move || {
            let mut cuts = cuts.into_iter();
            for client in listener.incoming().map_while(Result::ok) {
                // A client that finds nobody behind the relay sees its connection end.
                let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, target)) else { continue };
                let (cut, made) = (cuts.next(), Arc::clone(&made));
                let (up_from, up_to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                thread::spawn(move || relay(up_from, up_to, None));
                thread::spawn(move || {
                    if relay(server, client, cut) {
                        made.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
        });
        Proxy { port, cuts_made }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// How many connections were cut so far.
    pub(crate) fn cuts_made(&self) -> usize {
        self.cuts_made.load(Ordering::SeqCst)
    }
}

/// Copies until one side ends or the cut is reached, then ends both. True when it was cut.
fn relay(mut from: TcpStream, mut to: TcpStream, cut: Option<usize>) -> bool {
    let mut buffer = vec![0; 64 * 1_024];
    let mut left = cut.unwrap_or(usize::MAX);
    let mut was_cut = false;
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let mut passed = count.min(left);
        left -= passed;
        if left == 0 && buffer[passed - 1] == b'\n' {
            if passed < count {
                passed += 1;
            } else {
                left = 1;
            }
        }
        if to.write_all(&buffer[..passed]).is_err() {
            break;
        }
        if left == 0 {
            was_cut = true;
            break;
        }
    }
    // Either side may be gone already.
    drop(from.shutdown(Shutdown::Both));
    drop(to.shutdown(Shutdown::Both));
    was_cut
}
