//! A scripted name server on UDP.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

/// What the server says when it is asked for a name's addresses.
#[derive(Clone, Debug)]
pub enum DnsAnswer {
    /// These, good for no time at all. Each question gets those of its family.
    Addresses(Vec<IpAddr>),
    /// There is no such name.
    NoSuchName,
    /// No answer ever.
    Silence,
}

/// Answers on a port of its own until it is dropped.
pub struct DnsServer {
    address: SocketAddr,
    questions: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl DnsServer {
    /// `script` gets the name, lower case and without the final dot, and how many questions for IPv4 addresses (of any
    /// name) came before this one.
    pub async fn start(
        script: impl Fn(&str, usize) -> DnsAnswer + Send + Sync + 'static,
    ) -> DnsServer {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a UDP port");
        let address = socket.local_addr().expect("its address");
        let questions = Arc::new(AtomicUsize::new(0));
        let asked = Arc::clone(&questions);
        let task = tokio::spawn(async move {
            let mut packet = [0; 1500];
            while let Ok((length, from)) = socket.recv_from(&mut packet).await {
                let Some(question) = Question::read(&packet[..length]) else {
                    continue;
                };
                let before = match question.kind {
                    KIND_A => asked.fetch_add(1, Ordering::SeqCst),
                    _ => asked.load(Ordering::SeqCst),
                };
                if let Some(reply) = question.reply(&script(&question.name, before)) {
                    let _ = socket.send_to(&reply, from).await;
                }
            }
        });
        DnsServer {
            address,
            questions,
            task,
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How often it was asked for an IPv4 address.
    pub fn questions(&self) -> usize {
        self.questions.load(Ordering::SeqCst)
    }
}

impl Drop for DnsServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

const HEADER: usize = 12;
const KIND_A: u16 = 1;
const KIND_AAAA: u16 = 28;

struct Question {
    id: [u8; 2],
    name: String,
    kind: u16,
    raw: Vec<u8>,
}

impl Question {
    fn read(packet: &[u8]) -> Option<Question> {
        let mut labels = Vec::new();
        let mut at = HEADER;
        loop {
            let length = usize::from(*packet.get(at)?);
            at += 1;
            if length == 0 {
                break;
            }
            let label = packet.get(at..at + length)?;
            labels.push(String::from_utf8_lossy(label).to_ascii_lowercase());
            at += length;
        }
        let kind = u16::from_be_bytes(packet.get(at..at + 2)?.try_into().ok()?);
        Some(Question {
            id: packet.get(..2)?.try_into().ok()?,
            name: labels.join("."),
            kind,
            raw: packet.get(HEADER..at + 4)?.to_vec(),
        })
    }

    fn reply(&self, answer: &DnsAnswer) -> Option<Vec<u8>> {
        let (code, addresses) = match answer {
            DnsAnswer::Addresses(addresses) => (0, addresses.as_slice()),
            DnsAnswer::NoSuchName => (3, [].as_slice()),
            DnsAnswer::Silence => return None,
        };
        let records: Vec<Vec<u8>> = addresses
            .iter()
            .filter_map(|address| match address {
                IpAddr::V4(v4) if self.kind == KIND_A => Some(v4.octets().to_vec()),
                IpAddr::V6(v6) if self.kind == KIND_AAAA => Some(v6.octets().to_vec()),
                _ => None,
            })
            .collect();
        let mut reply = Vec::new();
        reply.extend_from_slice(&self.id);
        reply.extend_from_slice(&[0x81, 0x80 | code]);
        reply.extend_from_slice(&[0, 1, 0, records.len() as u8, 0, 0, 0, 0]);
        reply.extend_from_slice(&self.raw);
        for record in records {
            // A pointer to the name in the question, the kind, class IN, a lifetime of 0, the address.
            reply.extend_from_slice(&[0xc0, HEADER as u8]);
            reply.extend_from_slice(&self.kind.to_be_bytes());
            reply.extend_from_slice(&[0, 1, 0, 0, 0, 0, 0, record.len() as u8]);
            reply.extend_from_slice(&record);
        }
        Some(reply)
    }
}
