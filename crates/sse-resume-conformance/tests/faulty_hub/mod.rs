//! A small hub that lives in the process of the tests: correct, unless a fault is planted in it.
//!
//! Its id is `<number>-<epoch>`, a number in one order of all topics and the name of the log. Killing it closes all its
//! sockets at once, and leaves in its file what it had written by then.

pub(crate) mod fault;
mod log;
mod reading;

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Result;
use sse_resume_conformance::{Adapter, Launch, Running};

use fault::Fault;
use log::Log;
use reading::Reading;

/// Starts hubs with this fault.
pub(crate) struct Faulty(pub(crate) Option<Fault>);

struct Server {
    log: Log,
    fault: Option<Fault>,
    gone: AtomicBool,
    sockets: Mutex<Vec<TcpStream>>,
}

struct Started {
    server: Arc<Server>,
    accepting: Option<JoinHandle<()>>,
    port: u16,
}

impl Launch for Faulty {
    fn launch(&self, _: &Adapter, [port, _]: [u16; 2], data: &Path) -> Result<Box<dyn Running>> {
        let listener = bind(port)?;
        let server = Arc::new(Server {
            log: Log::open(data, self.0),
            fault: self.0,
            gone: AtomicBool::new(false),
            sockets: Mutex::default(),
        });
        let accepting = thread::spawn({
            let server = Arc::clone(&server);
            move || accept(&server, &listener)
        });
        Ok(Box::new(Started { server, accepting: Some(accepting), port }))
    }
}

impl Running for Started {
    fn kill(&mut self) -> Result<()> {
        self.end(true);
        Ok(())
    }

    fn stop(&mut self) -> Result<()> {
        self.end(false);
        Ok(())
    }

    fn is_alive(&mut self) -> bool {
        !self.server.gone.load(SeqCst)
    }

    fn log(&self) -> String {
        "the faulty hub says nothing".to_owned()
    }
}

impl Started {
    fn end(&mut self, crash: bool) {
        let Some(accepting) = self.accepting.take() else { return };
        // Whoever writes holds up nobody: its socket is shut first.
        self.server.gone.store(true, SeqCst);
        for socket in self.server.sockets.lock().unwrap().iter() {
            drop(socket.shutdown(Shutdown::Both));
        }
        self.server.log.close(crash);
        // It looks whether it is gone when somebody comes.
        drop(TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)));
        accepting.join().unwrap();
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        self.end(true);
    }
}

/// Binds a port that may still be held for a moment: by a process that another test is just starting.
fn bind(port: u16) -> io::Result<TcpListener> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(5));
            }
            bound => return bound,
        }
    }
}

fn accept(server: &Arc<Server>, listener: &TcpListener) {
    for socket in listener.incoming() {
        let Ok(socket) = socket else { continue };
        if server.gone.load(SeqCst) {
            return;
        }
        server.sockets.lock().unwrap().push(socket.try_clone().unwrap());
        let server = Arc::clone(server);
        thread::spawn(move || {
            // A connection ends when its client goes, and when the hub does.
            drop(serve(&server, &socket));
            drop(socket.shutdown(Shutdown::Both));
        });
    }
}

/// One request: its method, path and query, and what else of it counts.
struct Request {
    method: String,
    path: String,
    query: String,
    id: String,
    body: String,
}

fn serve(server: &Server, socket: &TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let mut input = BufReader::new(socket.try_clone()?);
    let mut output = socket.try_clone()?;
    while let Some(request) = read_request(&mut input)? {
        let parts: Vec<&str> = request.path.split('/').skip(1).collect();
        let status = match (request.method.as_str(), &parts[..]) {
            ("GET", ["events"]) => return stream(server, &request, output),
            ("GET", ["ready"]) => "200 OK",
            ("POST", ["topics", topic]) if server.log.publish(topic, &request.body) => "201 Created",
            ("POST", ["topics", _]) => return Ok(()),
            ("POST", ["limits", topic, keep]) => {
                server.log.limit(topic, keep.parse().unwrap());
                "200 OK"
            }
            _ => "404 Not Found",
        };
        write!(output, "HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n")?;
    }
    Ok(())
}

fn stream(server: &Server, request: &Request, socket: TcpStream) -> io::Result<()> {
    let (mut topics, mut from) = (Vec::new(), String::new());
    for (name, value) in request.query.split('&').filter_map(|pair| pair.split_once('=')) {
        match name {
            "topic" => topics.push(value.to_owned()),
            _ => value.clone_into(&mut from),
        }
    }
    let reading = Reading::new(&server.log, server.fault, topics, from, request.id.clone(), socket);
    reading.serve(|| server.gone.load(SeqCst))
}

fn read_request(input: &mut BufReader<TcpStream>) -> io::Result<Option<Request>> {
    let mut line = Vec::new();
    if input.read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    let first = String::from_utf8_lossy(&line).into_owned();
    let mut words = first.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let (mut id, mut length) = (String::new(), 0);
    loop {
        line.clear();
        input.read_until(b'\n', &mut line)?;
        let text = String::from_utf8_lossy(&line);
        match text.trim_end().split_once(": ") {
            Some(("Last-Event-ID", value)) => value.clone_into(&mut id),
            Some(("Content-Length", value)) => length = value.parse().map_err(io::Error::other)?,
            Some(_) => {}
            None => break,
        }
    }
    let mut body = vec![0; length];
    input.read_exact(&mut body)?;
    Ok(Some(Request {
        method: method.to_owned(),
        path: path.to_owned(),
        query: query.to_owned(),
        id,
        body: String::from_utf8_lossy(&body).into_owned(),
    }))
}
