//! The plainest of clients, for what tests ask of a server themselves.

use std::fmt::Write as _;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

/// A connection to a server, one command at a time.
#[derive(Debug)]
pub struct Client(BufReader<TcpStream>);

/// What a server answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// A simple or a bulk string; bytes that are no text are replaced.
    Text(String),
    /// A number.
    Number(i64),
    /// Nothing.
    Nil,
    /// Several.
    Array(Vec<Self>),
    /// An error.
    Error(String),
}

impl Reply {
    /// The text; empty if it is something else.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Self::Text(text) => text,
            Self::Number(_) | Self::Nil | Self::Array(_) | Self::Error(_) => "",
        }
    }
}

impl Client {
    /// Connects to a port of the loopback interface.
    ///
    /// # Errors
    /// When nobody listens there.
    pub fn connect(port: u16) -> io::Result<Self> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        Ok(Self(BufReader::new(stream)))
    }

    /// Sends a command and waits for its answer.
    ///
    /// # Panics
    /// When there is none.
    pub fn command(&mut self, words: &[&str]) -> Reply {
        let reply = self.try_command(words);
        reply.unwrap_or_else(|error| panic!("no answer to {words:?}: {error}"))
    }

    /// Sends a command that must be answered by `OK`.
    ///
    /// # Panics
    /// When it is not.
    pub fn expect_ok(&mut self, words: &[&str]) {
        let reply = self.command(words);
        assert_eq!(reply, Reply::Text("OK".to_owned()), "{words:?}");
    }

    /// Sends a command and waits for its answer.
    ///
    /// # Errors
    /// When the connection breaks.
    pub fn try_command(&mut self, words: &[&str]) -> io::Result<Reply> {
        let mut text = format!("*{}\r\n", words.len());
        for word in words {
            let _ = write!(text, "${}\r\n{word}\r\n", word.len());
        }
        self.0.get_mut().write_all(text.as_bytes())?;
        self.reply()
    }

    /// Waits for the next thing that the server says, as after `MONITOR`.
    ///
    /// # Errors
    /// When the connection breaks.
    pub fn reply(&mut self) -> io::Result<Reply> {
        let mut line = String::new();
        if self.0.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim_end();
        let (kind, rest) = line.split_at_checked(1).unwrap_or((line, ""));
        let number = || rest.parse::<i64>().map_err(io::Error::other);
        Ok(match kind {
            "+" => Reply::Text(rest.to_owned()),
            "-" => Reply::Error(rest.to_owned()),
            ":" => Reply::Number(number()?),
            "$" => match usize::try_from(number()?) {
                Ok(length) => {
                    let mut bytes = vec![0; length + 2];
                    self.0.read_exact(&mut bytes)?;
                    Reply::Text(String::from_utf8_lossy(&bytes[..length]).into_owned())
                }
                Err(_) => Reply::Nil,
            },
            "*" => match usize::try_from(number()?) {
                Ok(length) => {
                    let replies: io::Result<_> = (0..length).map(|_| self.reply()).collect();
                    Reply::Array(replies?)
                }
                Err(_) => Reply::Nil,
            },
            _ => return Err(io::Error::other(format!("not understood: {line}"))),
        })
    }
}
