//! Floods: slow clients by the thousand and connections without end, while an honest client is served.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketType, bind, connect, socket};

use crate::harness::heavy;
use crate::harness::stream::{Publisher, Stream};
use crate::harness::{Broker, PATIENCE, Request};

/// Where attacks come from; honest clients have another address.
const ATTACKER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// Events of which the 99th hundredth is taken.
const PUBLISHED: usize = 400;
/// Below this, what is measured is the machine and not the broker: on two busy cores a thread waits for its turn as long.
const NOISE: Duration = Duration::from_millis(25);

fn connect_as_attacker(port: u16) -> io::Result<TcpStream> {
    let attacker = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    bind(&attacker, &SocketAddrV4::new(ATTACKER, 0))?;
    connect(&attacker, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, port))?;
    Ok(TcpStream::from(attacker))
}

/// An honest client: one publishes, one reads along, and neither misses anything.
struct Honest {
    publisher: Publisher,
    reader: Stream,
    published: usize,
}

impl Honest {
    fn of(broker: &Broker) -> Self {
        let publisher = Publisher::connect(broker.port()).unwrap();
        let reader = Stream::open(broker.port(), "/v1/topics/honest/events?quiet=true", None).unwrap();
        Honest { publisher, reader, published: 0 }
    }

    /// How long it takes from the request to the reader's frame: what one in a hundred takes at most.
    fn p99(&mut self) -> Duration {
        let mut took: Vec<Duration> = (0..PUBLISHED)
            .map(|_| {
                let (began, data) = (Instant::now(), format!("event {}", self.published));
                self.published += 1;
                let answer = self.publisher.post("/v1/topics/honest/events", "", data.as_bytes());
                assert_eq!(answer.unwrap().0, 201);
                assert!(self.reader.next().unwrap(), "the stream goes on");
                assert_eq!(self.reader.block.data, data.as_bytes());
                began.elapsed()
            })
            .collect();
        took.sort_unstable();
        took[PUBLISHED * 99 / 100]
    }

    fn assert_served(&mut self, before: Duration, attack: &str) {
        let meanwhile = self.p99();
        println!("{attack}: the honest client's p99 is {meanwhile:?}, {before:?} before");
        assert!(meanwhile <= before * 2 + NOISE, "{attack}: {meanwhile:?}, and {before:?} before");
    }
}

/// One that sends a little and never what would be enough.
struct Slow {
    socket: TcpStream,
    rest: &'static [u8],
}

impl Slow {
    /// Sends one more byte; false once the broker has let it go.
    fn drip(&mut self) -> bool {
        if let Some((byte, rest)) = self.rest.split_first() {
            self.rest = rest;
            if self.socket.write_all(&[*byte]).is_err() {
                return false;
            }
        }
        !is_closed(&self.socket)
    }
}

fn is_closed(socket: &TcpStream) -> bool {
    socket.set_nonblocking(true).unwrap();
    let read = (&mut &*socket).read(&mut [0; 512]);
    socket.set_nonblocking(false).unwrap();
    match read {
        Ok(count) => count == 0,
        Err(error) => error.kind() != io::ErrorKind::WouldBlock,
    }
}

#[test]
fn a_thousand_slow_clients_keep_nobody_waiting_and_are_let_go() {
    let _turn = heavy::turn();
    let broker = Broker::start();
    let mut honest = Honest::of(&broker);
    honest.p99();
    let before = honest.p99();
    let head: &[u8] = b"POST /v1/topics/slow/events HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    let body: &[u8] =
        b"POST /v1/topics/slow/events HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100000\r\n\r\n";
    let mut slow: Vec<Slow> = (0..1_000)
        .map(|number| {
            let mut socket = connect_as_attacker(broker.port()).unwrap();
            let (at_once, rest) = if number % 2 == 0 { head.split_at(8) } else { (body, &[b'x'; 200][..]) };
            socket.write_all(at_once).unwrap();
            Slow { socket, rest }
        })
        .collect();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let slow = &mut slow;
        let is_over = &is_over;
        scope.spawn(move || {
            while !is_over.load(Ordering::SeqCst) {
                for slow in slow.iter_mut() {
                    slow.drip();
                }
                thread::sleep(Duration::from_millis(500));
            }
        });
        honest.assert_served(before, "a thousand slow clients");
        is_over.store(true, Ordering::SeqCst);
    });
    // Those that never finish their heads are let go first.
    let began = Instant::now();
    heavy::eventually("heads that do not end are given up", Duration::from_secs(60), || {
        thread::sleep(Duration::from_millis(500));
        // All of them, at each turn.
        slow.iter_mut().step_by(2).filter_map(|slow| slow.drip().then_some(())).count() == 0
    });
    println!("all five hundred slow heads were let go {:?} later", began.elapsed());
    assert_eq!(broker.get("/v1/topics/slow").status, 404, "nothing of it was published");
}

#[test]
fn a_flood_of_connections_from_one_address_keeps_nobody_waiting() {
    let _turn = heavy::turn();
    let broker = Broker::with(&["--set", "max_connections_per_address=100"]);
    let mut honest = Honest::of(&broker);
    honest.p99();
    let before = honest.p99();
    // They stay, so that the address has its number.
    let inside: Vec<TcpStream> = (0..100).map(|_| connect_as_attacker(broker.port()).unwrap()).collect();
    let (is_over, count) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::SeqCst) {
                if let Ok(mut socket) = connect_as_attacker(broker.port()) {
                    // A request that would cost something, if anybody read it.
                    drop(
                        socket.write_all(&Request::new("GET", "/v1/events?topic=**&from=earliest").bytes(80)),
                    );
                    count.fetch_add(1, Ordering::SeqCst);
                }
            }
        });
        honest.assert_served(before, "connections without end");
        is_over.store(true, Ordering::SeqCst);
    });
    println!("{} connections were turned away meanwhile", count.into_inner());
    drop(inside);
    heavy::eventually("the attacker's address is served again", PATIENCE, || {
        connect_as_attacker(broker.port()).is_ok_and(|mut socket| {
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            let request = Request::new("GET", "/healthz").bytes(broker.port());
            socket.write_all(&request).is_ok() && socket.read(&mut [0; 12]).is_ok_and(|count| count == 12)
        })
    });
}
