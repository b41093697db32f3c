//! The SIP socket and its timers: one task owns the pure user agent and moves datagrams, deadlines and events.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::{mpsc, oneshot};

use crate::engine::EngineError;
use crate::media::Clock;
use crate::seed::Ids;
use crate::sip::{Event, Invite, SessionId, Ua, UaConfig};

/// Commands that may wait for the task; a full queue makes the caller wait, not the socket.
const COMMAND_QUEUE: usize = 256;
/// Events of one session that may wait for its call; a call that far behind is stuck.
const EVENT_QUEUE: usize = 64;
/// The largest datagram UDP carries.
const MAX_DATAGRAM: usize = 65_535;

/// A request for us.
#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) session: SessionId,
    pub(super) target: String,
    pub(super) sdp: Option<Vec<u8>>,
    pub(super) events: mpsc::Receiver<Event>,
}

enum Command {
    Invite { invite: Box<Invite>, reply: oneshot::Sender<(SessionId, mpsc::Receiver<Event>)> },
    Ring { session: SessionId },
    Answer { session: SessionId, sdp: Vec<u8> },
    Reject { session: SessionId, status: u16 },
    HangUp { session: SessionId },
}

/// A cloneable way to the signalling task. Commands to a task that is gone are dropped: its calls end with it.
#[derive(Clone)]
pub(super) struct Signalling {
    commands: mpsc::Sender<Command>,
    address: SocketAddr,
}

impl Signalling {
    /// Binds the socket and starts the task. Requests for us appear at the returned receiver.
    pub(super) async fn start(
        bind: SocketAddr,
        public_ip: Option<IpAddr>,
        clock: Clock,
        ids: Ids,
    ) -> Result<(Self, mpsc::Receiver<Incoming>), EngineError> {
        let bound = |source| EngineError::Bind { what: "SIP", address: bind, source };
        let socket = UdpSocket::bind(bind).await.map_err(bound)?;
        let mut address = socket.local_addr().map_err(bound)?;
        if let Some(ip) = public_ip {
            address.set_ip(ip);
        } else if address.ip().is_unspecified() {
            return Err(EngineError::Config {
                key: "sip.public_ip",
                problem: "needed when the SIP socket binds to every address: expected the address peers reach us at".into(),
            });
        }
        let user_agent = concat!("patchcord/", env!("CARGO_PKG_VERSION")).to_owned();
        let ua = Ua::new(UaConfig { local: address, user: "patchcord".into(), user_agent }, ids);
        let (commands, command_rx) = mpsc::channel(COMMAND_QUEUE);
        let (incoming, incoming_rx) = mpsc::channel(EVENT_QUEUE);
        let task = Task { ua, socket, clock, sessions: HashMap::new(), incoming };
        tokio::spawn(task.run(command_rx));
        Ok((Self { commands, address }, incoming_rx))
    }

    /// The address in our Via and Contact.
    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sends an INVITE; the session's events arrive at the receiver. `None` when the task is gone.
    pub(super) async fn invite(&self, invite: Invite) -> Option<(SessionId, mpsc::Receiver<Event>)> {
        let (reply, session) = oneshot::channel();
        self.commands.send(Command::Invite { invite: Box::new(invite), reply }).await.ok()?;
        session.await.ok()
    }

    pub(super) async fn ring(&self, session: SessionId) {
        let _ = self.commands.send(Command::Ring { session }).await;
    }

    pub(super) async fn answer(&self, session: SessionId, sdp: Vec<u8>) {
        let _ = self.commands.send(Command::Answer { session, sdp }).await;
    }

    pub(super) async fn reject(&self, session: SessionId, status: u16) {
        let _ = self.commands.send(Command::Reject { session, status }).await;
    }

    /// Ends the session with whatever fits its state: CANCEL, a refusal, or BYE.
    pub(super) async fn hang_up(&self, session: SessionId) {
        let _ = self.commands.send(Command::HangUp { session }).await;
    }
}

struct Task {
    ua: Ua,
    socket: UdpSocket,
    clock: Clock,
    sessions: HashMap<SessionId, mpsc::Sender<Event>>,
    incoming: mpsc::Sender<Incoming>,
}

impl Task {
    async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let mut buffer = vec![0; MAX_DATAGRAM];
        let mut open = true;
        // Without commanders the task lives on until the last transaction is done.
        while open || self.ua.poll_timeout().is_some() {
            let now = self.clock.now();
            let wait = self.ua.poll_timeout().map_or(Duration::from_secs(3600), |at| at.since(now));
            tokio::select! {
                received = self.socket.recv_from(&mut buffer) => match received {
                    Ok((n, from)) => self.ua.handle_datagram(self.clock.now(), from, &buffer[..n]),
                    // An ICMP error of an earlier datagram; timers notice a peer that is gone.
                    Err(error) => tracing::debug!(%error, "sip socket"),
                },
                command = commands.recv(), if open => match command {
                    Some(command) => self.handle_command(command),
                    None => open = false,
                },
                () = tokio::time::sleep(wait) => self.ua.handle_timeout(self.clock.now()),
            }
            self.pump().await;
        }
    }

    fn handle_command(&mut self, command: Command) {
        let now = self.clock.now();
        match command {
            Command::Invite { invite, reply } => {
                let session = self.ua.invite(now, *invite);
                let (events, receiver) = mpsc::channel(EVENT_QUEUE);
                self.sessions.insert(session, events);
                if reply.send((session, receiver)).is_err() {
                    self.ua.hang_up(now, session);
                }
            }
            Command::Ring { session } => self.ua.ring(now, session, 180, None),
            Command::Answer { session, sdp } => self.ua.answer(now, session, &sdp),
            Command::Reject { session, status } => self.ua.reject(now, session, status, ""),
            Command::HangUp { session } => self.ua.hang_up(now, session),
        }
    }

    /// Sends what waits and hands events on.
    async fn pump(&mut self) {
        while let Some(transmit) = self.ua.poll_transmit() {
            if let Err(error) = self.socket.send_to(&transmit.bytes, transmit.destination).await {
                tracing::debug!(%error, "sip send");
            }
        }
        while let Some(event) = self.ua.poll_event() {
            self.deliver(event);
        }
    }

    fn deliver(&mut self, event: Event) {
        if let Event::Incoming { session, target, sdp, .. } = event {
            let (events, receiver) = mpsc::channel(EVENT_QUEUE);
            self.sessions.insert(session, events);
            let incoming = Incoming { session, target, sdp, events: receiver };
            if self.incoming.try_send(incoming).is_err() {
                self.sessions.remove(&session);
                self.ua.reject(self.clock.now(), session, 486, "Busy Here");
            }
            return;
        }
        let session = event.session();
        let over = matches!(event, Event::Rejected { .. } | Event::Cancelled { .. } | Event::Ended { .. });
        let gone = self.sessions.get(&session).is_some_and(|events| events.try_send(event).is_err());
        if over {
            self.sessions.remove(&session);
        } else if gone {
            // Nobody listens to this session any more: it must not stay up.
            self.sessions.remove(&session);
            self.ua.hang_up(self.clock.now(), session);
        }
    }
}
