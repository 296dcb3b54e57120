//! OpenSSL as the peer: key updates both ways and its tickets. Needs `openssl` on the path, and loopback.

use std::io::{BufRead as _, BufReader};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use super::*;

/// For anything that OpenSSL is waited for.
const PATIENCE: Duration = Duration::from_secs(20);

/// Our end of a TCP connection to OpenSSL, which is driven by its standard input.
struct Talk {
    end: End,
    socket: TcpStream,
    openssl: OpenSsl,
}

struct OpenSsl {
    child: Child,
    input: ChildStdin,
    /// What it prints: what it hears, and remarks.
    lines: Receiver<String>,
    files: PathBuf,
}

impl OpenSsl {
    fn start(name: &str, root: &Authority, whose: &str, arguments: &[&str]) -> Self {
        let files = std::env::temp_dir().join(format!(
            "ztunnel-openssl-{}-{name}-{:?}",
            std::process::id(),
            Instant::now()
        ));
        std::fs::create_dir_all(&files).unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let chain = root.sign(&Leaf::named(whose), &key);
        let write = |name: &str, text: &str| std::fs::write(files.join(name), text).unwrap();
        write("key", &key.serialize_pem());
        write("chain", &crate::tls::testing::pem(&chain));
        write("root", root.root_pem());
        let mut child = Command::new("openssl")
            .args(arguments)
            .args(["-tls1_3", "-alpn", "h2", "-key", "key", "-cert", "chain"])
            .args(["-CAfile", "root", "-verify_return_error"])
            .current_dir(&files)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("openssl is needed on the path");
        let (sender, lines) = channel();
        let (out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let err_sender = sender.clone();
        // They end with the process.
        std::thread::spawn(move || {
            let lines = BufReader::new(out).lines().map_while(Result::ok);
            lines.map(|line| sender.send(line)).all(|sent| sent.is_ok())
        });
        std::thread::spawn(move || {
            let lines = BufReader::new(err).lines().map_while(Result::ok);
            lines
                .map(|line| err_sender.send(line))
                .all(|sent| sent.is_ok())
        });
        let input = child.stdin.take().unwrap();
        Self {
            child,
            input,
            lines,
            files,
        }
    }

    /// It looks at the first letter of each read of its input: one command at a time.
    fn command(&mut self, line: &str) {
        self.input.write_all(line.as_bytes()).unwrap();
        self.input.write_all(b"\n").unwrap();
    }

    fn wait_for(&self, what: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + PATIENCE;
        let mut before = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) if what(&line) => return line,
                Ok(line) => before.push(line),
                Err(_) => panic!("openssl never said it: {}", before.join("\n")),
            }
        }
    }
}

impl Drop for OpenSsl {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.files);
    }
}

impl Talk {
    fn with_server(plan: RecordPlan) -> Self {
        let root = Authority::root("root");
        let arguments = ["s_server", "-accept", "127.0.0.1:0", "-Verify", "2"];
        let openssl = OpenSsl::start("server", &root, SERVER, &arguments);
        let accept = openssl.wait_for(|line| line.starts_with("ACCEPT 127.0.0.1:"));
        let socket = TcpStream::connect(accept.trim_start_matches("ACCEPT ")).unwrap();
        use_plan(plan);
        let end = End::client(root.certificate(CLIENT).client(&[identity(SERVER)]));
        Self::begin(end, socket, openssl)
    }

    fn with_client(plan: RecordPlan) -> Self {
        let root = Authority::root("root");
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let openssl = OpenSsl::start("client", &root, CLIENT, &["s_client", "-connect", &address]);
        let (socket, _) = listener.accept().unwrap();
        use_plan(plan);
        let end = End::server(root.certificate(SERVER).server());
        Self::begin(end, socket, openssl)
    }

    fn begin(end: End, socket: TcpStream, openssl: OpenSsl) -> Self {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut talk = Self {
            end,
            socket,
            openssl,
        };
        talk.send();
        while talk.end.session.is_handshaking() {
            talk.receive();
        }
        talk
    }

    fn send(&mut self) {
        let bytes = std::mem::take(&mut self.end.outbox);
        self.socket.write_all(&bytes).unwrap();
    }

    fn receive(&mut self) {
        let mut bytes = [0; 4096];
        let len = self.socket.read(&mut bytes).expect("openssl says nothing");
        assert!(len > 0, "openssl has gone: {:?}", self.end.error);
        self.end.take(&bytes[..len]);
        assert_eq!(self.end.error, None);
        self.send();
    }

    /// OpenSSL says a line and we hear it.
    fn hear(&mut self, line: &str) {
        self.openssl.command(line);
        let whole = format!("{line}\n");
        while !self.end.heard.ends_with(whole.as_bytes()) {
            self.receive();
        }
    }

    /// We say a line and OpenSSL hears it.
    fn say(&mut self, line: &str) {
        self.end.say(line.as_bytes());
        self.end.say(b"\n");
        self.send();
        // It prints its own remarks through another buffer, into the middle of lines.
        self.openssl.wait_for(|said| said.contains(line));
    }

    fn keys_change_as_often_as_either_likes(&mut self) {
        self.hear("a first line, behind the tickets if there are any");
        self.say("and an answer");
        for (round, command) in ["K", "k", "K", "K", "k"].into_iter().enumerate() {
            self.openssl.command(command);
            self.receive(); // the update: nothing else is on its way
            self.hear(&format!("with key {round}"));
            self.say(&format!("still understood {round}"));
        }
        // Past the number of bytes after which ours changes, several times.
        for number in 0..40 {
            self.say(&format!("{number} {}", "x".repeat(90)));
        }
        self.hear("the last words");
    }

    /// OpenSSL's close_notify, sealed with the last of its keys.
    fn hears_the_end(&mut self) {
        while !self.end.session.peer_closed() {
            self.receive();
        }
        assert_eq!(self.end.session.end_of_input(), Ok(()));
    }
}

fn plans() -> [RecordPlan; 3] {
    RecordPlan::EACH.map(|plan| plan.updating_after(1000))
}

#[test]
fn a_server_of_openssl_and_we_change_keys() {
    for plan in plans() {
        let mut talk = Talk::with_server(plan);
        talk.keys_change_as_often_as_either_likes();
        // It answers a close_notify with its own, but has none of its own accord (below).
        talk.end.session.close(&mut talk.end.outbox);
        talk.send();
        talk.hears_the_end();
    }
}

#[test]
fn a_client_of_openssl_and_we_change_keys() {
    for plan in plans() {
        let mut talk = Talk::with_client(plan);
        talk.keys_change_as_often_as_either_likes();
        talk.openssl.command("Q");
        talk.hears_the_end();
    }
}

/// Its command "Q" closes the socket first and then has nowhere to write the close_notify to.
#[test]
fn a_server_of_openssl_that_quits_has_cut_the_line() {
    for plan in plans() {
        let mut talk = Talk::with_server(plan);
        talk.hear("half of what there was to say");
        talk.openssl.command("Q");
        let mut bytes = [0; 4096];
        assert_eq!(talk.socket.read(&mut bytes).unwrap(), 0);
        assert!(!talk.end.session.peer_closed());
        assert_eq!(talk.end.session.end_of_input(), Err(TlsError::Truncated));
    }
}
