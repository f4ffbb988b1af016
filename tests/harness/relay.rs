//! A TCP relay between a client and the server that can cut, freeze, throttle, delay and count.
//!
//! | what | existing connections | new connections |
//! |---|---|---|
//! | `cut` | reset at once (RST) | reset after accepting |
//! | `freeze` | stay open, no data moves | only the kernel accepts them |
//! | `throttle` | share this many bytes per second, per direction | the same |
//! | `delay` | every byte arrives this much later, in order and at the same rate | the same |
//!
//! Each relay is one thread. A changed setting applies to bytes that have not been read yet.

use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

/// Most bytes per read.
const CHUNK_BYTES: usize = 32 * 1024;
/// Size of the kernel's socket buffers. A large buffer would hide a slow connection.
const KERNEL_BUFFER_BYTES: u32 = 128 * 1024;
/// Most chunks in flight on a delayed connection.
const CHUNKS_UNDER_WAY: usize = 256;

/// The direction of the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the server.
    ToServer,
    /// From the server to the client.
    ToClient,
}

/// Both directions.
pub const BOTH: [Direction; 2] = [Direction::ToServer, Direction::ToClient];

#[derive(Clone, Default)]
struct Settings {
    /// Counts the cuts; a connection ends when it changes.
    cuts: u64,
    is_cut: bool,
    stopped: bool,
    ways: [Way; 2],
}

impl Settings {
    fn heal(&mut self) {
        self.is_cut = false;
        for way in &mut self.ways {
            way.frozen = false;
            way.cut_after = None;
        }
    }
}

#[derive(Clone, Default)]
struct Way {
    frozen: bool,
    bytes_per_second: Option<u64>,
    delay: Duration,
    /// Cut after this many more bytes.
    cut_after: Option<u64>,
}

#[derive(Default)]
struct Counted {
    passed: [u64; 2],
    connections: u64,
    open: u64,
}

struct Shared {
    settings: watch::Sender<Settings>,
    counted: Mutex<Counted>,
    changed: Condvar,
    /// When the throttled connection is free again, for each direction.
    free_at: [Mutex<Option<Instant>>; 2],
}

/// A relay; it ends when this is dropped.
pub struct Relay {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    /// Starts a relay to `target` on a port of its own.
    #[track_caller]
    pub fn to(target: SocketAddr) -> Relay {
        let shared = Arc::new(Shared {
            settings: watch::Sender::new(Settings::default()),
            counted: Mutex::default(),
            changed: Condvar::new(),
            free_at: Default::default(),
        });
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("building the relay's runtime");
        let listener = runtime.block_on(async { listen() }).expect("listening for the relay");
        let address = listener.local_addr().expect("the relay's address");
        let accepting = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("relay".to_owned())
            .spawn(move || runtime.block_on(accept(listener, target, accepting)))
            .expect("starting the relay's thread");
        Relay { address, shared, thread: Some(thread) }
    }

    /// The address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address it listens on, as `nats://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    /// Resets all connections, and each new one, until [`Relay::heal`]. Returns once all are gone.
    pub fn cut(&self) {
        self.shared.cut();
        self.wait_for(Duration::from_secs(10), "the link to be cut", |counted| counted.open == 0);
    }

    /// Stops all data and accepts no connections, but keeps existing ones, until [`Relay::heal`].
    pub fn freeze(&self) {
        BOTH.into_iter().for_each(|way| self.freeze_way(way));
    }

    /// Stops all data in one direction.
    pub fn freeze_way(&self, direction: Direction) {
        self.set(direction, |way| way.frozen = true);
    }

    /// Ends `cut`, `freeze` and `cut_after`; rate and delay stay.
    pub fn heal(&self) {
        self.shared.settings.send_modify(Settings::heal);
    }

    /// [`Relay::heal`] and [`Relay::cut_after`] in one step: no data can pass in between.
    pub fn heal_and_cut_after(&self, direction: Direction, bytes: u64) {
        self.shared.settings.send_modify(|settings| {
            settings.heal();
            settings.ways[direction as usize].cut_after = Some(bytes);
        });
    }

    /// Cuts all connections after exactly `bytes` more bytes in this direction, in the middle of an
    /// output.
    pub fn cut_after(&self, direction: Direction, bytes: u64) {
        self.set(direction, |way| way.cut_after = Some(bytes));
    }

    /// Waits until [`Relay::cut_after`] has cut, and all connections are gone.
    #[track_caller]
    pub fn wait_until_cut(&self, deadline: Duration) {
        let shared = &self.shared;
        self.wait_for(deadline, "the link to be cut", |counted| {
            counted.open == 0 && shared.settings.borrow().is_cut
        });
    }

    /// Limits each direction to this many bytes per second; 0 removes the limit.
    pub fn throttle(&self, bytes_per_second: u64) {
        BOTH.into_iter().for_each(|way| self.throttle_way(way, bytes_per_second));
    }

    /// Limits one direction to this many bytes per second; 0 removes the limit.
    pub fn throttle_way(&self, direction: Direction, bytes_per_second: u64) {
        self.set(direction, |way| way.bytes_per_second = (bytes_per_second > 0).then_some(bytes_per_second));
    }

    /// Delays each direction by this much: a round trip takes twice as long.
    pub fn delay(&self, delay: Duration) {
        BOTH.into_iter().for_each(|way| self.delay_way(way, delay));
    }

    /// Delays one direction by this much.
    pub fn delay_way(&self, direction: Direction, delay: Duration) {
        self.set(direction, |way| way.delay = delay);
    }

    /// The number of bytes that have passed in this direction, over all connections.
    pub fn passed(&self, direction: Direction) -> u64 {
        self.shared.counted().passed[direction as usize]
    }

    /// The number of connections made so far, including those reset at once.
    pub fn connections(&self) -> u64 {
        self.shared.counted().connections
    }

    /// The number of open connections.
    pub fn open(&self) -> u64 {
        self.shared.counted().open
    }

    /// Waits until `bytes` bytes in total have passed in this direction.
    #[track_caller]
    pub fn wait_until_passed(&self, direction: Direction, bytes: u64, deadline: Duration) {
        self.wait_for(deadline, &format!("{bytes} bytes {direction:?}"), |counted| {
            counted.passed[direction as usize] >= bytes
        });
    }

    /// Waits until `bytes` more bytes have passed in this direction.
    #[track_caller]
    pub fn wait_for_more(&self, direction: Direction, bytes: u64, deadline: Duration) {
        self.wait_until_passed(direction, self.passed(direction) + bytes, deadline);
    }

    /// Waits until `count` connections in total were made.
    #[track_caller]
    pub fn wait_for_connections(&self, count: u64, deadline: Duration) {
        self.wait_for(deadline, &format!("{count} connections"), |counted| counted.connections >= count);
    }

    fn set(&self, direction: Direction, change: impl FnOnce(&mut Way)) {
        self.shared.settings.send_modify(|settings| change(&mut settings.ways[direction as usize]));
    }

    #[track_caller]
    fn wait_for(&self, deadline: Duration, what: &str, wanted: impl Fn(&Counted) -> bool) {
        let end = std::time::Instant::now() + deadline;
        let mut counted = self.shared.counted();
        while !wanted(&counted) {
            let left = end.saturating_duration_since(std::time::Instant::now());
            assert!(
                !left.is_zero(),
                "waited {deadline:?} in vain for {what}; passed [to server, to client] {:?}, {} connections, {} open",
                counted.passed,
                counted.connections,
                counted.open
            );
            counted = match self.shared.changed.wait_timeout(counted, left) {
                Ok((counted, _)) => counted,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.settings.send_modify(|settings| settings.stopped = true);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn counted(&self) -> MutexGuard<'_, Counted> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, change: impl FnOnce(&mut Counted)) {
        change(&mut self.counted());
        self.changed.notify_all();
    }

    fn cut(&self) {
        self.settings.send_modify(|settings| {
            settings.cuts += 1;
            settings.is_cut = true;
            settings.ways.iter_mut().for_each(|way| way.cut_after = None);
        });
        self.count(|_| {});
    }

    fn way(&self, direction: Direction) -> Way {
        self.settings.borrow().ways[direction as usize].clone()
    }

    /// How many of `length` bytes may pass, and whether to cut after them.
    fn admit(&self, direction: Direction, length: usize) -> (usize, bool) {
        let mut admitted = (length, false);
        self.settings.send_if_modified(|settings| {
            let Some(left) = &mut settings.ways[direction as usize].cut_after else { return false };
            let allowed = usize::try_from(*left).unwrap_or(usize::MAX).min(length);
            *left -= allowed as u64;
            admitted = (allowed, *left == 0);
            false
        });
        admitted
    }

    /// Reserves time for `length` bytes on the throttled connection; returns when they are through.
    fn book(&self, direction: Direction, length: usize) -> Instant {
        let now = Instant::now();
        let Some(rate) = self.way(direction).bytes_per_second else { return now };
        let mut free_at = self.free_at[direction as usize].lock().unwrap_or_else(PoisonError::into_inner);
        let begin = free_at.map_or(now, |at| at.max(now));
        let through = begin + Duration::from_secs_f64(length as f64 / rate as f64);
        *free_at = Some(through);
        through
    }
}

fn listen() -> std::io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    // Accepted sockets inherit this.
    socket.set_recv_buffer_size(KERNEL_BUFFER_BYTES)?;
    socket.bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    socket.listen(128)
}

async fn accept(listener: TcpListener, target: SocketAddr, shared: Arc<Shared>) {
    let mut settings = shared.settings.subscribe();
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let (stopped, frozen) = {
            let now = settings.borrow_and_update();
            (now.stopped, now.ways.iter().any(|way| way.frozen) && !now.is_cut)
        };
        if stopped {
            return;
        }
        tokio::select! {
            _ = settings.changed() => {}
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if !frozen => {
                let Ok((client, _)) = accepted else { continue };
                shared.count(|counted| counted.connections += 1);
                let now = settings.borrow().clone();
                if now.is_cut {
                    let _ = client.set_zero_linger();
                    continue;
                }
                shared.count(|counted| counted.open += 1);
                connections.spawn(carry(client, target, now.cuts, Arc::clone(&shared)));
            }
        }
    }
}

/// Relays one connection from its acceptance to its end.
async fn carry(mut client: TcpStream, target: SocketAddr, cuts: u64, shared: Arc<Shared>) {
    let mut settings = shared.settings.subscribe();
    let connected = async {
        let socket = TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(KERNEL_BUFFER_BYTES)?;
        socket.connect(target).await
    };
    if let Ok(mut server) = connected.await {
        let _ = client.set_nodelay(true);
        let _ = server.set_nodelay(true);
        let ended_well = {
            let (from_client, to_client) = client.split();
            let (from_server, to_server) = server.split();
            tokio::select! {
                _ = settings.wait_for(|now| now.cuts != cuts || now.stopped) => false,
                done = async {
                    tokio::try_join!(
                        pass(from_client, to_server, Direction::ToServer, &shared),
                        pass(from_server, to_client, Direction::ToClient, &shared),
                    )
                } => done.is_ok(),
            }
        };
        if !ended_well {
            let _ = client.set_zero_linger();
            let _ = server.set_zero_linger();
        }
        drop(server);
    } else {
        let _ = client.set_zero_linger();
    }
    drop(client);
    shared.count(|counted| counted.open -= 1);
}

/// Relays one direction of one connection until its end of file was forwarded.
async fn pass(
    from: ReadHalf<'_>,
    to: WriteHalf<'_>,
    direction: Direction,
    shared: &Shared,
) -> std::io::Result<()> {
    let (under_way, arriving) = mpsc::channel(CHUNKS_UNDER_WAY);
    tokio::try_join!(take(from, under_way, direction, shared), deliver(to, arriving, direction, shared))?;
    Ok(())
}

/// Bytes in flight.
struct Chunk {
    bytes: Vec<u8>,
    arrives: Instant,
    /// Whether to cut after these bytes.
    last: bool,
}

async fn take(
    mut from: ReadHalf<'_>,
    under_way: mpsc::Sender<Chunk>,
    direction: Direction,
    shared: &Shared,
) -> std::io::Result<()> {
    loop {
        thawed(direction, shared).await;
        from.readable().await?;
        let way = shared.way(direction);
        if way.frozen {
            continue;
        }
        // Chunks of a twentieth of a second keep a slow connection smooth.
        let size = way.bytes_per_second.map_or(CHUNK_BYTES, |rate| {
            usize::try_from(rate / 20).unwrap_or(CHUNK_BYTES).clamp(1, CHUNK_BYTES)
        });
        let mut bytes = vec![0; size];
        let length = from.read(&mut bytes).await?;
        if length == 0 {
            return Ok(());
        }
        // Bytes left over by a cut are lost with the connection, as in a real network.
        let (length, last) = shared.admit(direction, length);
        bytes.truncate(length);
        sleep_until(shared.book(direction, length)).await;
        let chunk = Chunk { bytes, arrives: Instant::now() + way.delay, last };
        if under_way.send(chunk).await.is_err() {
            return Ok(());
        }
        if last {
            std::future::pending::<()>().await;
        }
    }
}

async fn deliver(
    mut to: WriteHalf<'_>,
    mut arriving: mpsc::Receiver<Chunk>,
    direction: Direction,
    shared: &Shared,
) -> std::io::Result<()> {
    while let Some(chunk) = arriving.recv().await {
        sleep_until(chunk.arrives).await;
        thawed(direction, shared).await;
        to.write_all(&chunk.bytes).await?;
        shared.count(|counted| counted.passed[direction as usize] += chunk.bytes.len() as u64);
        if chunk.last {
            shared.cut();
        }
    }
    thawed(direction, shared).await;
    to.shutdown().await
}

/// Waits until this direction is not frozen.
async fn thawed(direction: Direction, shared: &Shared) {
    let mut settings = shared.settings.subscribe();
    let _ = settings.wait_for(|now| !now.ways[direction as usize].frozen).await;
}
