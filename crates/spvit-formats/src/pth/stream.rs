//! A window of a file as a stream of bytes, which never promises more than the window holds.

use crate::error::Fault;
use crate::file::CheckedFile;

pub(super) struct Stream<'a> {
    file: &'a mut CheckedFile,
    /// Where the buffer starts in the file.
    base: u64,
    /// The read position inside the buffer.
    at: usize,
    buffer: Vec<u8>,
    end: u64,
}

const BUFFER: u64 = 1 << 13;
const LONGEST_LINE: usize = 4096;

impl<'a> Stream<'a> {
    /// The bytes of `file` from `start` up to, not including, `end`.
    pub(super) fn new(file: &'a mut CheckedFile, start: u64, end: u64) -> Self {
        let end = end.min(file.len());
        Self { file, base: start, at: 0, buffer: Vec::new(), end }
    }

    /// The position in the file.
    pub(super) fn position(&self) -> u64 {
        self.base + self.at as u64
    }

    fn remaining(&self) -> u64 {
        self.end.saturating_sub(self.position())
    }

    fn refill(&mut self) -> Result<(), Fault> {
        self.base = self.position();
        self.at = 0;
        let n = self.remaining().min(BUFFER) as usize;
        if n == 0 {
            return Err(Fault::damaged(
                "more of the pickle",
                format!("its end at byte {}", self.base),
            ));
        }
        self.buffer.resize(n, 0);
        self.file.read_at(self.base, &mut self.buffer)
    }

    pub(super) fn byte(&mut self) -> Result<u8, Fault> {
        if self.at == self.buffer.len() {
            self.refill()?;
        }
        let byte = self.buffer[self.at];
        self.at += 1;
        Ok(byte)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let mut out = [0; N];
        for byte in &mut out {
            *byte = self.byte()?;
        }
        Ok(out)
    }

    /// The next `count` bytes; the claim is checked before memory is taken.
    pub(super) fn take(&mut self, count: u64) -> Result<Vec<u8>, Fault> {
        let position = self.position();
        if count > self.remaining() {
            return Err(Fault::damaged(
                format!("{count} bytes at byte {position}"),
                format!("{} bytes before the pickle's end", self.remaining()),
            ));
        }
        let out = self.file.bytes(position, count, "a part of the pickle")?;
        self.base = position + count;
        self.at = 0;
        self.buffer.clear();
        Ok(out)
    }

    /// Short strings come from the buffer, long ones straight from the file.
    pub(super) fn string(&mut self, count: u64) -> Result<Vec<u8>, Fault> {
        match self.buffer.get(self.at..).map(|rest| rest.get(..count as usize)) {
            Some(Some(bytes)) if count <= BUFFER => {
                self.at += bytes.len();
                Ok(bytes.to_vec())
            }
            _ => self.take(count),
        }
    }

    /// The bytes up to a line feed, which is consumed but not returned.
    pub(super) fn line(&mut self) -> Result<Vec<u8>, Fault> {
        let mut out = Vec::new();
        loop {
            match self.byte()? {
                b'\n' => return Ok(out),
                byte if out.len() < LONGEST_LINE => out.push(byte),
                _ => {
                    return Err(Fault::damaged(
                        format!("a name of at most {LONGEST_LINE} bytes"),
                        format!("a longer one before byte {}", self.position()),
                    ));
                }
            }
        }
    }
}
