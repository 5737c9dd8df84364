//! Judges a complete request head.

use super::violation::Violation;

/// How the body behind a head is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    Length(u64),
    Chunked,
}

/// What framing needs to know of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) framing: Framing,
    /// The client offers to change the protocol after this message.
    pub(crate) upgrade: bool,
}

/// Judges `bytes`: a whole head whose every LF is known to stand behind a CR, with its empty line.
pub(crate) fn judge(bytes: &[u8], max_fields: usize) -> Result<Head, Violation> {
    let mut lines = Lines(bytes);
    let http11 = request_line(lines.next().unwrap_or_default())?;
    let mut seen = Seen::default();
    let mut fields = 0;
    for line in lines {
        if line.is_empty() {
            break;
        }
        fields += 1;
        if fields > max_fields {
            return Err(Violation::TooManyFields);
        }
        let (name, value) = field_line(line)?;
        seen.note(name, value)?;
    }
    if http11 && !seen.host {
        return Err(Violation::MissingHost);
    }
    let framing = match (seen.length, seen.chunked) {
        (Some(_), true) => return Err(Violation::LengthAndEncoding),
        (None, true) if !http11 => return Err(Violation::EncodingOnHttp10),
        (None, true) => Framing::Chunked,
        (length, false) => Framing::Length(length.unwrap_or(0)),
    };
    Ok(Head {
        framing,
        upgrade: http11 && seen.upgrade,
    })
}

/// The lines of a head, without their CRLF.
struct Lines<'a>(&'a [u8]);

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let newline = memchr::memchr(b'\n', self.0)?;
        let line = &self.0[..newline.saturating_sub(1)];
        self.0 = &self.0[newline + 1..];
        Some(line)
    }
}

/// Whether the version is HTTP/1.1 (else it is HTTP/1.0).
fn request_line(line: &[u8]) -> Result<bool, Violation> {
    let fault = || match line.iter().any(|byte| is_control(*byte)) {
        true => Violation::ControlCharacter,
        false => Violation::RequestLine,
    };
    let (rest, http11) = match line.split_last_chunk::<9>() {
        Some((rest, b" HTTP/1.1")) => (rest, true),
        Some((rest, b" HTTP/1.0")) => (rest, false),
        _ => return Err(fault()),
    };
    let space = memchr::memchr(b' ', rest).ok_or_else(fault)?;
    let (method, target) = (&rest[..space], &rest[space + 1..]);
    // A fragment is never sent; who drops it and who keeps it see two targets.
    let refused = |byte: u8| (byte <= b' ') | (byte == 0x7f) | (byte == b'#');
    let bad_target = target
        .iter()
        .fold(target.is_empty(), |bad, byte| bad | refused(*byte));
    if is_token(method) && !bad_target {
        Ok(http11)
    } else {
        Err(fault())
    }
}

fn field_line(line: &[u8]) -> Result<(&[u8], &[u8]), Violation> {
    if matches!(line[0], b' ' | b'\t') {
        return Err(Violation::ObsFold);
    }
    let colon = memchr::memchr(b':', line).ok_or(Violation::FieldName)?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    if !is_token(name) {
        return Err(Violation::FieldName);
    }
    // Without an early end the compiler does many bytes at a time.
    if value
        .iter()
        .fold(false, |found, byte| found | is_control(*byte))
    {
        return Err(Violation::ControlCharacter);
    }
    Ok((name, trim(value)))
}

/// The fields that decide on framing, as seen so far.
#[derive(Default)]
struct Seen {
    length: Option<u64>,
    chunked: bool,
    host: bool,
    upgrade: bool,
}

impl Seen {
    fn note(&mut self, name: &[u8], value: &[u8]) -> Result<(), Violation> {
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => {
                if self.host {
                    return Err(Violation::DuplicateHost);
                }
                if !value.iter().all(|byte| is_host_byte(*byte)) {
                    return Err(Violation::Host);
                }
                self.host = true;
            }
            7 if name.eq_ignore_ascii_case(b"upgrade") => self.upgrade = true,
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                if self.length.is_some() {
                    return Err(Violation::DuplicateContentLength);
                }
                self.length = Some(decimal(value).ok_or(Violation::ContentLength)?);
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(Violation::TransferEncoding);
                }
                self.chunked = true;
            }
            _ => {}
        }
        Ok(())
    }
}

fn decimal(value: &[u8]) -> Option<u64> {
    // The largest length that hyper takes; also keeps every sum below overflow.
    const MAX: u64 = u64::MAX - 2;
    if value.is_empty() {
        return None;
    }
    value
        .iter()
        .try_fold(0_u64, |sum, byte| {
            let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
            sum.checked_mul(10)?.checked_add(digit)
        })
        .filter(|length| *length <= MAX)
}

fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = value {
        value = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

fn is_control(byte: u8) -> bool {
    ((byte < b' ') & (byte != b'\t')) | (byte == 0x7f)
}

/// What a host with its port is made of (RFC 3986, section 3.2.2).
pub(crate) fn is_host_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=%:[]".contains(&byte)
}

fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|byte| is_token_byte(*byte))
}

/// `tchar` of RFC 9110, section 5.6.2.
pub(crate) const fn is_token_byte(byte: u8) -> bool {
    TOKEN[byte as usize]
}

static TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        table[byte as usize] = byte.is_ascii_alphanumeric()
            || matches!(
                byte,
                b'!' | b'#'
                    | b'$'
                    | b'%'
                    | b'&'
                    | b'\''
                    | b'*'
                    | b'+'
                    | b'-'
                    | b'.'
                    | b'^'
                    | b'_'
                    | b'`'
                    | b'|'
                    | b'~'
            );
        byte += 1;
    }
    table
};
