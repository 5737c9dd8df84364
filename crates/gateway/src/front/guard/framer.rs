//! Follows HTTP/1 request framing byte by byte: which bytes belong to which message.
//!
//! Pure: bytes in, verdict out. It accepts only what RFC 9112 lets no two parties read in two
//! ways, and it never gives a head away before the whole of it has been judged.

use super::head::{self, Framing};
use super::violation::Violation;

/// Bounds on what is taken in.
#[derive(Clone, Copy, Debug)]
pub struct FrameLimits {
    /// Longest head (request line and fields, with the empty line), and longest trailer
    /// section, in bytes.
    pub max_head: usize,
    /// Most fields in a head, and in a trailer section.
    pub max_fields: usize,
}

/// What to do with the bytes at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The first so many (at least one) are in order: pass them on, then ask again.
    Pass(usize),
    /// Keep them and ask again when more have come.
    Wait,
    /// A request that asks for an upgrade has ended here. Whether these bytes are the next
    /// request or another protocol is for the response to say: call [`Framer::resume`] or
    /// [`Framer::pass_all`] then.
    Undecided,
    /// They must not be read as a request. Final.
    Refuse(Violation),
}

/// The state machine; one for each connection.
#[derive(Debug)]
pub struct Framer {
    state: State,
    limits: FrameLimits,
    /// Heads passed so far.
    heads: u64,
    upgrade: bool,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Head {
        /// Where the current line begins.
        line: usize,
        /// Up to where line ends have been looked for.
        scanned: usize,
        /// An empty line has already been passed over.
        blank: bool,
    },
    Length(u64),
    Chunked(Chunk, Tally),
    Undecided,
    Raw,
    Refused {
        violation: Violation,
        in_body: bool,
    },
}

const NEXT_HEAD: State = State::Head {
    line: 0,
    scanned: 0,
    blank: false,
};

/// Where in a chunked body (RFC 9112, section 7.1).
#[derive(Clone, Copy, Debug)]
enum Chunk {
    Size { size: u64, digits: u8 },
    Extension { size: u64 },
    SizeLf { size: u64 },
    Data(u64),
    DataCr,
    DataLf,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLf,
    EndLf,
}

const NEXT_CHUNK: Chunk = Chunk::Size { size: 0, digits: 0 };

/// What a chunked body has spent of its bounds.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    extensions: usize,
    trailers: usize,
    fields: usize,
}

/// Chunk extensions carry nothing that anybody uses: a body gets this many bytes of them.
const MAX_EXTENSIONS: usize = 4096;

impl Framer {
    /// A framer at the start of a connection.
    #[must_use]
    pub fn new(limits: FrameLimits) -> Self {
        Self {
            state: NEXT_HEAD,
            limits,
            heads: 0,
            upgrade: false,
        }
    }

    /// Judges `input`, the bytes that follow those passed so far. After [`Step::Wait`] it must
    /// begin with the same bytes again.
    pub fn step(&mut self, input: &[u8]) -> Step {
        if input.is_empty() {
            return Step::Wait;
        }
        let step = match &mut self.state {
            State::Head { .. } => self.head(input),
            State::Length(left) => {
                let take = usize::try_from(*left).map_or(input.len(), |left| left.min(input.len()));
                *left -= take as u64;
                if *left == 0 {
                    self.end_message();
                }
                Step::Pass(take)
            }
            State::Chunked(chunk, tally) => {
                let (chunk, tally) = (*chunk, *tally);
                self.chunked(chunk, tally, input)
            }
            State::Undecided => Step::Undecided,
            State::Raw => Step::Pass(input.len()),
            State::Refused { violation, .. } => Step::Refuse(*violation),
        };
        if let Step::Refuse(violation) = step {
            self.state = State::Refused {
                violation,
                in_body: self.in_body(),
            };
        }
        step
    }

    /// How many heads have been passed.
    #[must_use]
    pub fn heads(&self) -> u64 {
        self.heads
    }

    /// Whether the next byte is the first of a message.
    #[must_use]
    pub fn between_messages(&self) -> bool {
        matches!(self.state, State::Head { .. } | State::Undecided)
    }

    /// Whether a body is being passed, or was at the fault.
    #[must_use]
    pub fn in_body(&self) -> bool {
        match self.state {
            State::Length(_) | State::Chunked(..) => true,
            State::Refused { in_body, .. } => in_body,
            State::Head { .. } | State::Undecided | State::Raw => false,
        }
    }

    /// Whether [`Step::Undecided`] stands.
    #[must_use]
    pub fn is_undecided(&self) -> bool {
        matches!(self.state, State::Undecided)
    }

    /// The upgrade was declined: what follows is the next request.
    pub fn resume(&mut self) {
        if self.is_undecided() {
            self.state = NEXT_HEAD;
        }
    }

    /// The upgrade was accepted: what follows is not HTTP any more.
    pub fn pass_all(&mut self) {
        self.state = State::Raw;
    }

    fn head(&mut self, input: &[u8]) -> Step {
        let State::Head {
            line,
            scanned,
            blank,
        } = &mut self.state
        else {
            return Step::Wait;
        };
        // RFC 9112, section 2.2: one empty line before a request line is to be ignored.
        if !*blank && input[0] == b'\r' {
            match input.get(1) {
                None => return Step::Wait,
                Some(b'\n') => {
                    *blank = true;
                    return Step::Pass(2);
                }
                Some(_) => return Step::Refuse(Violation::ControlCharacter),
            }
        }
        let window = &input[..input.len().min(self.limits.max_head)];
        while let Some(found) = memchr::memchr(b'\n', &window[*scanned..]) {
            let newline = *scanned + found;
            if newline == 0 || window[newline - 1] != b'\r' {
                return Step::Refuse(Violation::BareLf);
            }
            let empty = newline - 1 == *line;
            *line = newline + 1;
            *scanned = newline + 1;
            if empty {
                return self.end_head(&window[..=newline]);
            }
        }
        *scanned = window.len();
        if input.len() >= self.limits.max_head {
            return Step::Refuse(Violation::HeadTooLarge);
        }
        Step::Wait
    }

    fn end_head(&mut self, bytes: &[u8]) -> Step {
        let head = match head::judge(bytes, self.limits.max_fields) {
            Ok(head) => head,
            Err(violation) => return Step::Refuse(violation),
        };
        self.heads += 1;
        self.upgrade = head.upgrade;
        match head.framing {
            Framing::Length(0) => self.end_message(),
            Framing::Length(length) => self.state = State::Length(length),
            Framing::Chunked => self.state = State::Chunked(NEXT_CHUNK, Tally::default()),
        }
        Step::Pass(bytes.len())
    }

    fn end_message(&mut self) {
        self.state = if self.upgrade {
            State::Undecided
        } else {
            NEXT_HEAD
        };
    }

    fn chunked(&mut self, mut chunk: Chunk, mut tally: Tally, input: &[u8]) -> Step {
        let mut at = 0;
        while at < input.len() {
            if let Chunk::Data(left) = chunk {
                let rest = input.len() - at;
                let take = usize::try_from(left).map_or(rest, |left| left.min(rest));
                at += take;
                let left = left - take as u64;
                chunk = if left == 0 {
                    Chunk::DataCr
                } else {
                    Chunk::Data(left)
                };
                continue;
            }
            let ended = matches!(chunk, Chunk::EndLf) && input[at] == b'\n';
            match next_chunk_state(chunk, input[at], &mut tally, self.limits) {
                Ok(next) => chunk = next,
                // What came before the fault is passed first, however the input was cut.
                Err(_) if at > 0 => break,
                Err(violation) => return Step::Refuse(violation),
            }
            at += 1;
            if ended {
                self.end_message();
                return Step::Pass(at);
            }
        }
        self.state = State::Chunked(chunk, tally);
        Step::Pass(at)
    }
}

fn next_chunk_state(
    chunk: Chunk,
    byte: u8,
    tally: &mut Tally,
    limits: FrameLimits,
) -> Result<Chunk, Violation> {
    let is_text = |byte: u8| byte == b'\t' || (byte >= b' ' && byte != 0x7f);
    let line_fault = |byte: u8, other| match byte {
        b'\n' => Violation::BareLf,
        b'\r' | 0..=0x1f | 0x7f => Violation::ControlCharacter,
        _ => other,
    };
    if matches!(
        chunk,
        Chunk::TrailerStart | Chunk::TrailerName | Chunk::TrailerValue | Chunk::TrailerLf
    ) {
        if tally.trailers >= limits.max_head {
            return Err(Violation::HeadTooLarge);
        }
        tally.trailers += 1;
    }
    match (chunk, byte) {
        (Chunk::Size { size, digits }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
            let digit = char::from(byte).to_digit(16).map_or(0, u64::from);
            match size
                .checked_mul(16)
                .and_then(|size| size.checked_add(digit))
            {
                // Leading zeros don't overflow, so the digits are bounded as well.
                Some(size) if digits < 16 => Ok(Chunk::Size {
                    size,
                    digits: digits + 1,
                }),
                _ => Err(Violation::ChunkSize),
            }
        }
        (Chunk::Size { digits: 0, .. }, _) => Err(line_fault(byte, Violation::ChunkSize)),
        (Chunk::Size { size, .. } | Chunk::Extension { size }, b'\r') => Ok(Chunk::SizeLf { size }),
        (Chunk::Size { size, .. }, b';') => Ok(Chunk::Extension { size }),
        (Chunk::Size { .. }, _) => Err(line_fault(byte, Violation::ChunkSize)),
        (Chunk::Extension { size }, _) if is_text(byte) => {
            tally.extensions += 1;
            if tally.extensions > MAX_EXTENSIONS {
                return Err(Violation::ChunkExtension);
            }
            Ok(Chunk::Extension { size })
        }
        (Chunk::Extension { .. }, _) => Err(line_fault(byte, Violation::ChunkExtension)),
        (Chunk::SizeLf { size: 0 }, b'\n') => Ok(Chunk::TrailerStart),
        (Chunk::SizeLf { size }, b'\n') => Ok(Chunk::Data(size)),
        (Chunk::DataCr, b'\r') => Ok(Chunk::DataLf),
        (Chunk::DataLf, b'\n') => Ok(NEXT_CHUNK),
        (Chunk::DataCr, _) => Err(line_fault(byte, Violation::ChunkEnd)),
        (Chunk::TrailerStart, b'\r') => Ok(Chunk::EndLf),
        (Chunk::TrailerStart, _) if head::is_token_byte(byte) => {
            tally.fields += 1;
            if tally.fields > limits.max_fields {
                return Err(Violation::TooManyFields);
            }
            Ok(Chunk::TrailerName)
        }
        (Chunk::TrailerStart, b' ' | b'\t') => Err(Violation::ObsFold),
        (Chunk::TrailerName, b':') => Ok(Chunk::TrailerValue),
        (Chunk::TrailerName, _) if head::is_token_byte(byte) => Ok(Chunk::TrailerName),
        (Chunk::TrailerStart | Chunk::TrailerName, _) => {
            Err(line_fault(byte, Violation::FieldName))
        }
        (Chunk::TrailerValue, b'\r') => Ok(Chunk::TrailerLf),
        (Chunk::TrailerValue, _) if is_text(byte) => Ok(Chunk::TrailerValue),
        (Chunk::TrailerValue, _) => Err(line_fault(byte, Violation::ControlCharacter)),
        (Chunk::TrailerLf, b'\n') => Ok(Chunk::TrailerStart),
        (Chunk::EndLf, b'\n') => Ok(Chunk::EndLf),
        (Chunk::SizeLf { .. } | Chunk::DataLf | Chunk::TrailerLf | Chunk::EndLf, _) => {
            Err(Violation::ControlCharacter)
        }
        (Chunk::Data(left), _) => Ok(Chunk::Data(left)),
    }
}
