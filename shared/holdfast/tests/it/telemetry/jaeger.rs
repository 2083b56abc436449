//! A Jaeger agent that receives UDP packets and decodes their Thrift.

use std::{collections::BTreeMap, io::Cursor, net::UdpSocket, time::Duration};

use thrift::protocol::{TCompactInputProtocol, TInputProtocol, TType};

use super::Seen;

pub(super) struct Agent(UdpSocket);

/// Any Thrift value. Numbers of all sizes are one kind, and fields are known by their numbers.
#[derive(Clone, Debug)]
enum Thrift {
    Bool(bool),
    Int(i64),
    Double(f64),
    Text(String),
    List(Vec<Thrift>),
    Struct(BTreeMap<i16, Thrift>),
}

impl Agent {
    pub(super) fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
        let patience = Some(Duration::from_millis(500));
        socket.set_read_timeout(patience).expect("a socket");
        Self(socket)
    }

    pub(super) fn port(&self) -> u16 {
        self.0.local_addr().expect("an address").port()
    }

    /// Returns the received spans, once no more arrive.
    pub(super) fn spans(&self) -> Vec<Seen> {
        let mut packet = vec![0; 65_536];
        let mut seen = Vec::new();
        while let Ok(length) = self.0.recv(&mut packet) {
            seen.extend(spans(&packet[..length]));
        }
        seen
    }
}

fn spans(packet: &[u8]) -> Vec<Seen> {
    let mut input = TCompactInputProtocol::new(Cursor::new(packet));
    let message = input.read_message_begin().expect("a message");
    assert_eq!(message.name, "emitBatch");
    let batch = read(&mut input, TType::Struct).field(1);
    let process = batch.field(1);
    let about = process.field(2).tags();
    assert!(about.contains_key("service.instance.id"), "{about:?}");
    batch
        .field(2)
        .list()
        .iter()
        .map(|span| {
            let trace = |low: i16, high: i16, of: &Thrift| {
                format!("{:016x}{:016x}", of.field(high).int(), of.field(low).int())
            };
            assert!(
                span.field(8).int() > 0 && span.field(9).int() >= 0,
                "{span:?}"
            );
            let parent = span.field(4).int();
            let mut attributes = span.field(10).tags();
            let kind = attributes.remove("span.kind");
            let failed = attributes.remove("otel.status_code");
            let detail = attributes.remove("otel.status_description");
            let error = attributes.remove("error");
            assert_eq!(failed.is_some(), error.is_some());
            Seen {
                name: span.field(5).text(),
                service: process.field(1).text(),
                version: about["service.version"].clone(),
                trace: trace(1, 2, span),
                id: format!("{:016x}", span.field(3).int()),
                parent: (parent != 0).then(|| format!("{parent:016x}")),
                kind: match kind.as_deref() {
                    Some("server") => "server",
                    Some("client") => "client",
                    Some("producer") => "producer",
                    Some("consumer") => "consumer",
                    None => "internal",
                    other => panic!("{other:?}"),
                },
                attributes,
                error: failed.map(|_| detail.unwrap_or_default()),
                links: span
                    .optional(6)
                    .map(|links| links.list())
                    .unwrap_or_default()
                    .iter()
                    .map(|link| (trace(2, 3, link), format!("{:016x}", link.field(4).int())))
                    .collect(),
            }
        })
        .collect()
}

impl Thrift {
    fn optional(&self, number: i16) -> Option<Self> {
        match self {
            Self::Struct(fields) => fields.get(&number).cloned(),
            other => panic!("no struct: {other:?}"),
        }
    }

    fn field(&self, number: i16) -> Self {
        self.optional(number)
            .unwrap_or_else(|| panic!("no field {number} in {self:?}"))
    }

    fn int(&self) -> i64 {
        match self {
            Self::Int(int) => *int,
            other => panic!("no number: {other:?}"),
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            other => panic!("no text: {other:?}"),
        }
    }

    fn list(&self) -> Vec<Self> {
        match self {
            Self::List(list) => list.clone(),
            other => panic!("no list: {other:?}"),
        }
    }

    /// Reads a list of tags. Fields: 1 key, 2 type, 3 text, 4 double, 5 bool, 6 long.
    fn tags(&self) -> BTreeMap<String, String> {
        let value = |tag: &Self| match tag.field(2).int() {
            0 => tag.field(3).text(),
            2 => match tag.field(5) {
                Self::Bool(value) => value.to_string(),
                other => panic!("{other:?}"),
            },
            3 => tag.field(6).int().to_string(),
            1 => match tag.field(4) {
                Self::Double(value) => value.to_string(),
                other => panic!("{other:?}"),
            },
            other => panic!("type {other}: {tag:?}"),
        };
        self.list()
            .iter()
            .map(|tag| (tag.field(1).text(), value(tag)))
            .collect()
    }
}

fn read(input: &mut dyn TInputProtocol, kind: TType) -> Thrift {
    match kind {
        TType::Bool => Thrift::Bool(input.read_bool().expect("a bool")),
        TType::I08 => Thrift::Int(input.read_i8().expect("a byte").into()),
        TType::I16 => Thrift::Int(input.read_i16().expect("a number").into()),
        TType::I32 => Thrift::Int(input.read_i32().expect("a number").into()),
        TType::I64 => Thrift::Int(input.read_i64().expect("a number")),
        TType::Double => Thrift::Double(input.read_double().expect("a number")),
        TType::String => Thrift::Text(input.read_string().expect("text")),
        TType::List => {
            let list = input.read_list_begin().expect("a list");
            let items = (0..list.size).map(|_| read(input, list.element_type));
            Thrift::List(items.collect())
        }
        TType::Struct => {
            input.read_struct_begin().expect("a struct");
            let mut fields = BTreeMap::new();
            loop {
                let field = input.read_field_begin().expect("a field");
                if field.field_type == TType::Stop {
                    break;
                }
                let number = field.id.expect("a number");
                fields.insert(number, read(input, field.field_type));
                input.read_field_end().expect("its end");
            }
            input.read_struct_end().expect("its end");
            Thrift::Struct(fields)
        }
        other => panic!("Jaeger uses no {other:?}"),
    }
}
